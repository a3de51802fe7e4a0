"""The fleet: a process of its own that brings up Ray, the queue actor and the head's workers.

It is the only driver of Ray on this machine. When the raylet or Ray's control store dies, Ray may
take its driver along; it takes this process then, not the controller, which starts another. When
the controller dies, this process leaves, and the detached actors go on; the next one finds them by
name. Machines that join have a process like it: see cluster.nodes.node.

Protocol: settings as JSON in the file named by the only argument; reports as JSON lines on standard
output; the word `shutdown` on standard input ends everything, end of file only this process.
"""

import logging
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from cluster.ledger.codec import from_json
from cluster.ledger.ledger import LedgerAway
from cluster.nodes.board import Board, BoardAway
from cluster.nodes.crew import Crew, CrewFailed, Post, actors, cause, end_actors, here
from cluster.nodes.driver import leave_with, ordered, say
from cluster.nodes.fleet_settings import FleetSettings, Joined
from cluster.nodes.ray_cluster import PrivateRay, RayFailed
from cluster.ours import assert_ours
from cluster.queue.brief import Brief, Versions
from cluster.queue.queue_actor import QUEUE, QueueActor
from cluster.transport.depot import DEPOT, THREADS, DepotActor
from cluster.transport.manifest import Room
from trainer.paths import WorkerPaths
from trainer.scorer import most_bytes

CHECK_S = 0.25
PING_S = 5.0
NAMES_S = 1.0
"""How often the queue is asked which names are taken."""
TOLD_S = 2.5
"""How long nodes may take to hear that the study stops: they look every other second."""


class _Fleet:
    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        paths = WorkerPaths(
            study=Path(settings.directory), environments=Path(settings.environments)
        )
        post = Post(study=settings.study, node="", paths=paths, slots=settings.slots)
        self._crew = Crew(settings.terms, post, say)
        self._private = PrivateRay(
            runtime=Path(settings.runtime),
            directory=Path(settings.directory),
            empty=Path(settings.empty),
            listen=settings.listen,
        )
        self._queue: Any = None
        self._depot: Any = None
        self._board: Board | None = None
        """Of a Ray that other machines may join."""
        self._identity = ""
        """Of a Ray of our own: see Brief.ray."""
        self._pinged = 0.0
        self._asked = 0.0
        self._asking: Future[Mapping[str, str]] | None = None
        self._names: Mapping[str, str] = {}
        """What the board says of names."""
        self._is_waiting = False
        """Whether the queue could not reach its ledger when it was to serve this fleet."""

    def join(self) -> None:
        """Find or start Ray, and connect to it."""
        address = self._settings.address
        if not address:
            own = self._private.ensure()
            address = own.address
            self._identity = own.identity
            threading.Thread(target=leave_with, args=(own,), daemon=True).start()
        _connect(address, study=self._settings.study)
        if self._settings.listen:
            self._board = Board(address)

    def populate(self) -> int:
        """Find or make the queue actor and the head's workers; return how many slots it has."""
        settings = self._settings
        queue = ray.remote(QueueActor).options(name=QUEUE, max_concurrency=1000, **here())
        self._queue = queue.remote(settings.url, settings.study, settings.lease_s)
        self._adopt()
        if self._board is not None:
            self._open_depot()
            self._board.post(self._brief())  # not before there is a queue to ask for work
        return self._populate_head()

    def _adopt(self) -> None:
        """Have the queue serve this fleet; while its ledger is away it is asked again later.

        Meanwhile everything else can go on: workers wait for the ledger themselves.
        """
        try:
            ray.get(self._queue.adopt.remote(self._settings.lease_s))
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, LedgerAway):
                raise
            if not self._is_waiting:
                say("problem", f"{error.cause}: the fleet waits for it, as the workers do")
            self._is_waiting = True
            return
        if self._is_waiting:
            say("back", "the ledger's server answers again")
        self._is_waiting = False

    def _brief(self) -> Brief:
        settings = self._settings
        return Brief(
            study=settings.study,
            name=settings.name,
            versions=Versions.ours(),
            ray=self._identity,
            terms=settings.terms,
        )

    def _open_depot(self) -> None:
        depot = ray.remote(DepotActor).options(name=DEPOT, max_concurrency=THREADS, **here())
        base = self._settings.terms.base
        self._depot = depot.remote(self._settings.directory, base, *self._limits())
        self._brief_depot()

    def _brief_depot(self) -> None:
        """Tell the depot its limits: one of an earlier controller, started again, has its."""
        self._depot.adopt.remote(*self._limits())

    def _limits(self) -> tuple[Room, float]:
        """Return how much of a trial may come back, and how many GB of all are kept."""
        keep, score = self._crew.settings.keep, self._crew.settings.score
        needed = most_bytes(score) * len(self._settings.terms.needed) if score else 0
        return Room(bytes=round(keep.return_mb * 1e6), needed_bytes=needed), keep.disk_gb

    def _populate_head(self) -> int:
        """Return how many slots the head has; it may have none where others can join."""
        try:
            return self._crew.populate()
        except CrewFailed as error:
            if self._board is None:
                raise
            say("problem", f"no slots here: {error}; machines that join have theirs")
            return 0

    def tend(self) -> None:
        """See what has died, and bring it back."""
        self._crew.tend()
        now = time.monotonic()
        if now - self._pinged > PING_S:
            # An actor that Ray restarts is started by this call.
            self._queue.ping.remote()
            self._pinged = now
            if self._is_waiting:
                self._adopt()
            if self._board is not None:
                self._brief_depot()
                self._tell_of_refusals(self._board)

        if self._board is not None and now - self._asked > NAMES_S:
            self._post_names(self._board)
            self._asked = now

    def _post_names(self, board: Board) -> None:
        """Have the board say which names are taken, for those who have no Ray to ask the queue."""
        if self._asking is None:
            self._asking = self._queue.names.remote().future()
        if not self._asking.done():
            return  # Ray may be starting the queue again
        asked, self._asking = self._asking, None
        with suppress(BoardAway, ray.exceptions.RayError):
            if (names := asked.result()) != self._names:
                board.post_names(names)
                self._names = names

    def _tell_of_refusals(self, board: Board) -> None:
        with suppress(BoardAway):
            for refusal in board.take_refusals():
                self._queue.refuse.remote(refusal)

    def shutdown(self) -> None:
        """End the actors; the controller ends Ray itself."""
        if self._board is not None:
            with suppress(BoardAway):
                self._board.close()  # before nodes miss what is ended here
                if sum(node["Alive"] for node in ray.nodes()) > 1:  # type: ignore[no-untyped-call]
                    time.sleep(TOLD_S)
        end_actors(actors())
        ray.shutdown()


def _connect(address: str, *, study: str) -> None:
    ray.init(address=address, namespace=study, log_to_driver=False, logging_level=logging.ERROR)


def main() -> int:
    """Run the fleet until told to end, or until Ray or the controller is gone."""
    assert_ours()
    fleet = _Fleet(from_json(FleetSettings, Path(sys.argv[1]).read_bytes()))
    try:
        fleet.join()
        say("ready", f"{fleet.populate()} slots")
        while (order := ordered(CHECK_S)) is None:
            fleet.tend()
    except CrewFailed as error:
        say("fatal", str(error))
        return 1
    except (RayFailed, ConnectionError, ray.exceptions.RayError) as error:
        say("problem", cause(error))
        return 1
    if order == "shutdown":
        fleet.shutdown()
        say("down", "everything was ended")
    return 0


def end() -> int:
    """End what an earlier fleet left in the Ray cluster that it had joined."""
    assert_ours()
    joined = from_json(Joined, Path(sys.argv[1]).read_bytes())
    try:
        _connect(joined.address, study=joined.study)
        end_actors(actors())
        ray.shutdown()
    except (ConnectionError, ray.exceptions.RayError) as error:
        say("problem", cause(error))
        return 1
    return 0
