"""The fleet: a process of its own that brings up Ray, the queue actor and the head's workers.

It is the only driver of Ray on this machine. When the raylet or Ray's control store dies, Ray may
take its driver along; it takes this process then, not the controller, which starts another. When
the controller dies, this process leaves, and the detached actors go on; the next one finds them by
name. Machines that join have a process like it: see cluster.node.

Protocol: settings as JSON in the file named by the only argument; reports as JSON lines on standard
output; the word `shutdown` on standard input ends everything, end of file only this process.
"""

import logging
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from cluster.board import Board, BoardAway
from cluster.brief import Brief, Versions
from cluster.codec import from_json
from cluster.crew import Crew, CrewFailed, Post, actors, cause, end_actors, here
from cluster.depot import DEPOT, THREADS, DepotActor
from cluster.driver import leave_with, ordered, say
from cluster.fleet_settings import FleetSettings
from cluster.ours import assert_ours
from cluster.queue_actor import QUEUE, QueueActor
from cluster.ray_cluster import PrivateRay, RayFailed
from trainer.arrange_scorer import most_bytes
from trainer.paths import WorkerPaths

CHECK_S = 0.25
PING_S = 5.0


class _Fleet:
    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._brief = _brief(settings)
        paths = WorkerPaths(
            study=Path(settings.directory), environments=Path(settings.environments)
        )
        self._crew = Crew(self._brief, Post(node="", paths=paths, slots=settings.slots), say)
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
        self._pinged = 0.0

    def join(self) -> None:
        """Find or start Ray, and connect to it."""
        address = self._settings.address
        if not address:
            own = self._private.ensure()
            address = own.address
            self._brief = replace(self._brief, ray=own.identity)
            threading.Thread(target=leave_with, args=(own,), daemon=True).start()
        ray.init(
            address=address,
            namespace=self._settings.study,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        if self._settings.listen:
            self._board = Board(address)

    def populate(self) -> int:
        """Find or make the queue actor and the head's workers; return how many slots it has."""
        settings = self._settings
        queue = ray.remote(QueueActor).options(name=QUEUE, max_concurrency=1000, **here())
        self._queue = queue.remote(settings.url, settings.study, settings.lease_s)
        ray.get(self._queue.adopt.remote(settings.lease_s))
        if self._board is not None:
            self._open_depot()
            self._board.post(self._brief)  # not before there is a queue to ask for work
        return self._populate_head()

    def _open_depot(self) -> None:
        depot = ray.remote(DepotActor).options(name=DEPOT, max_concurrency=THREADS, **here())
        self._depot = depot.remote(self._settings.directory, self._settings.base, *self._limits())
        self._brief_depot()

    def _brief_depot(self) -> None:
        """Tell the depot its limits: one of an earlier controller, started again, has its."""
        self._depot.adopt.remote(*self._limits())

    def _limits(self) -> tuple[int, float]:
        """Return how many bytes of a trial may come back, and how many GB of all are kept."""
        keep, score = self._crew.settings.keep, self._crew.settings.score
        needed = most_bytes(score) * len(self._settings.needed) if score else 0
        return round(keep.return_mb * 1e6) + needed, keep.disk_gb

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
            if self._board is not None:
                self._brief_depot()
                self._tell_of_refusals(self._board)

    def _tell_of_refusals(self, board: Board) -> None:
        with suppress(BoardAway):
            for refusal in board.take_refusals():
                self._queue.refuse.remote(refusal)

    def shutdown(self) -> None:
        """End the actors; the controller ends Ray itself."""
        if self._board is not None:
            with suppress(BoardAway):
                self._board.close()  # before nodes miss what is ended here
        end_actors(actors())
        ray.shutdown()


def _brief(settings: FleetSettings) -> Brief:
    return Brief(
        study=settings.study,
        name=settings.name,
        base=settings.base,
        versions=Versions.ours(),
        ray="",
        gpu_busy_mb=settings.gpu_busy_mb,
        trial=settings.trial,
        metric=settings.metric,
        editable=settings.editable,
        score=settings.score,
        further=settings.further,
        keep=settings.keep,
        needed=settings.needed,
    )


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
    fleet = _Fleet(from_json(FleetSettings, Path(sys.argv[1]).read_bytes()))
    try:
        fleet.join()
        fleet.shutdown()
    except (ConnectionError, ray.exceptions.RayError) as error:
        say("problem", cause(error))
        return 1
    return 0
