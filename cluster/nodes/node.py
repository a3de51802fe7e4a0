"""A node: the driver of Ray on a machine that joined a study.

It reads the study's board and sees whether the two fit, joins its Ray, makes the machine ready for
trials, has workers for its slots, and says every other second that it lives. What becomes of the
study meanwhile it learns by that, and when the head comes back as another study or with other
terms, it ends and is started anew. On the head cluster.nodes.fleet does the like.

Protocol: settings as JSON in the file named by the only argument; reports as JSON lines on standard
output (`phase`, `joined`, `leaving`, `problem`; the last is `away`, `stopped`, `fatal`, `denied` or
`left`). On standard input, `leave` has it finish what runs and go, `now` has it go at once; until
it has joined, both do. At the end of file it goes, too, and ends its Ray: whoever would have done
that was killed.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

from cluster.ledger.codec import from_json
from cluster.ledger.ledger import LedgerAway
from cluster.nodes.board import Board, BoardAway, StudyStopped, WrongToken
from cluster.nodes.crew import Crew, CrewFailed, Post, cause
from cluster.nodes.driver import BrokenOff, Orders, leave_with, say
from cluster.nodes.node_settings import NodeSettings
from cluster.nodes.node_stores import DRIVER_LOCK, make_room
from cluster.nodes.ray_cluster import PrivateRay
from cluster.nodes.reach import address_towards, split
from cluster.nodes.readiness import (
    NodeRefused,
    make_ready,
    require_machine,
    slots_asked,
    study_folder,
)
from cluster.ours import assert_ours
from cluster.queue.brief import Brief, NodeFacts, Order, Refusal, Versions
from cluster.queue.queue_actor import QUEUE
from cluster.transport.handing_in import HandingIn
from cluster.transport.node_repository import NodeRepository
from cluster.transport.ray_depot import RayDepot
from cluster.transport.remote_code import RemoteCode
from cluster.transport.remote_results import RemoteResults
from trainer.environment import EnvironmentFailed
from trainer.git_command import GitError
from trainer.gpu import NvmlGpus
from trainer.limit_defaults import machine_memory
from trainer.paths import WorkerPaths
from trainer.worktree import locked

BEAT_S = 2.0
ASKED_S = 10.0
"""How long the study may take to let a node go before it is said that it does not."""
ANYWAY_S = 120.0
"""How long before it leaves as it would if the head were gone."""
NAMES_S = 3.0
"""How long the board may say of a name that it is taken after it was given up."""
CALL_S = 10.0
"""How long the queue may take to answer a beat before the head counts as away."""
CHECK_S = 0.25
FETCH_S = 600.0
"""How long the head may be silent while the base commit comes over, before it begins anew."""
REFUSED = 2
AWAY = 3
FAILED = 1
"""Exit codes: it does not fit; the head is not there; something else, worth another try."""


_REASONS = {"now": "left at once", "": "its node process has ended"}
"""Why a node has left, by the order at which it did."""


class NameTaken(NodeRefused):
    """Another machine of the study goes by this name."""


class HeadChanged(ConnectionError):
    """The study has other terms than those by which this machine was prepared."""


class NotLetGo(ConnectionError):
    """The study did not answer a node that asked to leave."""


class _Node:
    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._address = address_towards(*split(settings.head))
        self._board = Board(settings.head)
        brief = self._brief = self._read_brief()
        self._private = PrivateRay(
            runtime=Path(settings.runtime),
            directory=Path(settings.directory),
            empty=Path(settings.empty),
            head=f"{settings.head} {brief.ray}",
        )
        self._paths = WorkerPaths(
            study=study_folder(Path(settings.directory), brief.study, brief.terms.base),
            environments=Path(settings.environments),
        )
        self._queue: Any = None
        self._crew: Crew | None = None
        self._beat_at = 0.0
        self._facts: NodeFacts | None = None
        self._is_leaving = False
        self._asked_at: float | None = None
        self._handing_in: HandingIn | None = None
        self._is_ending = False
        self._fault = ""
        self._problems: list[str] = []
        """What ails its workers and was not told yet."""

    def _read_brief(self) -> Brief:
        """Return the study's brief, if it is one that this version understands."""
        if problem := Versions.ours().mismatch(self._board.versions()):
            self._leave_word(NodeRefused(problem))
            raise NodeRefused(problem)
        return self._board.brief()

    def join(self) -> int:
        """Make this machine one of the study's nodes; return how many slots it brings.

        Raises NodeRefused; BoardAway, ConnectionError and what Ray raises while the head is away.
        """
        try:
            return self._join()
        except NodeRefused as error:
            self._leave_word(error)
            raise

    def _leave_word(self, error: NodeRefused) -> None:
        # What is said of a name that another node has would be said of that one.
        node = self._settings.node
        name = f"{node}@{self._address}" if isinstance(error, NameTaken) else node
        refusal = Refusal(node=name, address=self._address, reason=str(error))
        with suppress(BoardAway):
            self._board.refuse(refusal)

    def _join(self) -> int:
        started = time.monotonic()
        self._require_name()
        study, terms = self._brief.study, self._brief.terms
        slots = slots_asked(self._settings.slots, terms.trial)
        post = Post(study=study, node=self._settings.node, paths=self._paths, slots=slots)
        crew = self._crew = Crew(terms, post, self._hear)
        require_machine(crew.settings.trial, Path(self._settings.directory))
        say("phase", "starting Ray")
        own = self._private.ensure()
        watch = partial(leave_with, own, lambda: self._is_ending)
        threading.Thread(target=watch, daemon=True).start()
        ray.init(
            address=self._settings.head,
            namespace=self._brief.study,
            _temp_dir=self._private.temporary,  # told by that from another Ray on this machine
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._queue = ray.get_actor(QUEUE)
        facts = self._present()
        if ray.get(self._queue.is_taken.remote(facts), timeout=CALL_S):
            raise self._taken()  # before minutes are spent
        try:
            crew.count_slots()  # before it counts as joined
            self._make_room(crew.settings.keep.disk_gb)
            here = NodeRepository(self._paths.repository, pinned=crew.settings.base)
            make_ready(crew.settings, RemoteCode(RayDepot(), here, patience_s=FETCH_S))
        except (CrewFailed, EnvironmentFailed, GitError) as error:
            raise NodeRefused(str(error)) from error
        self._facts = replace(facts, prepared_s=round(time.monotonic() - started, 1))
        if self._beat() is Order.TAKEN:
            raise self._taken()
        return crew.populate()

    def _hear(self, kind: str, text: str) -> None:
        """Take what the crew reports; workers that end again and again cannot be here."""
        if kind == "fatal":
            self._fault = text
        else:
            self._problems.append(text)

    def _require_name(self) -> None:
        """Raise NameTaken by what the board says, for nobody can ask the queue before Ray is up."""
        own, deadline = self._settings, time.monotonic() + NAMES_S
        while self._board.names().get(own.node, own.id) != own.id:
            if time.monotonic() > deadline:
                raise self._taken()
            time.sleep(CHECK_S)

    def _taken(self) -> NameTaken:
        return NameTaken(
            f"the study has a node {self._settings.node} already: give this one another name with "
            "--name"
        )

    def _make_room(self, most_gb: float) -> None:
        """Bound what earlier studies left on this machine; nothing of them lives any more."""
        say("phase", "looking at what earlier studies left")
        others = [Path(folder) for folder in self._settings.others]
        try:
            for gone in make_room(self._paths.study, others, most_gb):
                say("phase", f"removed what an earlier study left, see [keep] disk_gb: {gone}")
        except OSError as error:
            say("problem", f"what an earlier study left cannot be removed: {error}")

    def _present(self) -> NodeFacts:
        return NodeFacts(
            node=self._settings.node,
            id=self._settings.id,
            address=self._address,
            versions=Versions.ours(),
            cpus=os.cpu_count() or 1,
            memory_gb=round(machine_memory() / 1e9, 1),
            gpus=tuple(card.name for card in NvmlGpus().look()),
        )

    def _beat(self) -> Order:
        """Say that the node lives.

        Raises LedgerAway, if that is to be told and cannot be now, and StudyStopped.
        """
        self._beat_at = time.monotonic()
        try:
            order: Order = ray.get(self._queue.beat.remote(self._facts), timeout=CALL_S)
        except ray.exceptions.RayActorError:
            self._board.brief()
            raise
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LedgerAway):
                raise error.cause from None
            raise
        return order

    def tend(self) -> None:
        """Keep the workers up, and do as the head wants.

        Raises HeadChanged, StudyStopped, NodeRefused if there can be no workers after all, and what
        Ray raises.
        """
        if self._crew is None:
            return
        self._crew.tend(is_leaving=self._is_leaving)
        if self._fault:
            raise NodeRefused(self._fault)
        self._tell_problems()
        if time.monotonic() - self._beat_at < BEAT_S:
            return
        if self._board.brief() != self._brief:
            raise HeadChanged("the study has other terms now")
        # Ray is starting the queue again, or the ledger is away: the next beat asks.
        with suppress(ray.exceptions.ActorUnavailableError, LedgerAway):
            if self._beat() is Order.LEAVE and not self._is_leaving:
                say("leaving", "finishing what runs, then leaving")
                self._is_leaving = True
        if self._asked_at is not None and not self._is_leaving:
            self._ask(time.monotonic() - self._asked_at)

    def _tell_problems(self) -> None:
        if self._problems:
            self._board.brief()  # a study that stops ends its workers everywhere: no problem
            for text in self._problems:
                say("problem", text)
            self._problems.clear()

    def _ask(self, asked_s: float) -> None:
        """Ask to be let go, again; raises NotLetGo after a while."""
        away = (ray.exceptions.ActorUnavailableError, ray.exceptions.RayTaskError)
        with suppress(*away):
            ray.get(self._queue.drain.remote(self._settings.node), timeout=CALL_S)
        if words := unanswered(asked_s):
            say("phase", words)

    def ask_to_leave(self) -> None:
        """Have the study give this node nothing more: it then orders it to leave."""
        self._asked_at = time.monotonic()

    def has_left(self) -> bool:
        """Say whether the node was to leave, nothing of it runs, and all of it is handed in."""
        if not self._is_leaving or self._crew is None or not self._crew.is_home:
            return False
        if self._handing_in is None:
            results = RemoteResults.of(self._crew.settings, RayDepot(), others_s=0.0)
            self._handing_in = HandingIn(results, say)
        return self._handing_in.is_over()

    def leave(self, reason: str) -> None:
        """End the workers and tell the study; Ray is ended by whoever started this process."""
        if self._crew is not None:
            self._crew.end()
        with suppress(ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            ray.get(self._queue.part.remote(self._settings.node, reason), timeout=CALL_S)
        ray.shutdown()

    def end_ray(self) -> None:
        """End this machine's Ray, which nobody else is there to do."""
        self._is_ending = True
        self._private.stop()


def unanswered(asked_s: float) -> str:
    """Return what to say while a study does not let a node go that asked to; "" for a while.

    Raises NotLetGo when it has waited for long enough.
    """
    if asked_s > ANYWAY_S:
        raise NotLetGo("the study did not let this machine go; what ran here is given back")
    if asked_s > ASKED_S:
        return (
            "the study does not let this machine go, for its queue or its ledger does not answer: "
            f"it goes anyway {ANYWAY_S:g} s after it asked, and with `leave --now` at once"
        )
    return ""


def main() -> int:
    """Be a node until told to leave, or until Ray or the study is gone; return an exit code."""
    assert_ours()
    orders = Orders().start()
    settings = from_json(NodeSettings, Path(sys.argv[1]).read_bytes())
    try:
        with alone(Path(settings.directory)):
            return _be(settings, orders)
    except BrokenOff:
        say("left", "left before it had joined")
        return 0


def _be(settings: NodeSettings, orders: Orders) -> int:
    try:
        return _serve(settings, orders)
    except WrongToken as error:
        say("denied", str(error))
        return REFUSED
    except NodeRefused as error:
        say("fatal", str(error))
        return REFUSED
    except (BoardAway, LedgerAway) as error:
        say("stopped" if isinstance(error, StudyStopped) else "away", str(error))
        return AWAY
    except ray.exceptions.RayActorError:
        say("away", "the study's queue is gone")
        return FAILED
    except Exception as error:  # noqa: BLE001 - Ray raises whatever it likes: it is worth another try
        say("away", cause(error))
        return FAILED


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait until no other driver is at work here: one that lost its node process takes a while.

    It would end our workers along with its own, which have the same names.
    """
    with locked(directory / DRIVER_LOCK):
        yield


def _serve(settings: NodeSettings, orders: Orders) -> int:
    node = _Node(settings)
    try:
        many = node.join()
        orders.be_patient()
    except BrokenOff:
        if orders.next(0.0) == "":
            node.end_ray()
        raise
    say("joined", f"{many} slot{'s' * (many != 1)}")
    order: str | None = None
    while not node.has_left() and order not in {"", "now"}:
        order = orders.next(CHECK_S)
        if order == "leave":
            node.ask_to_leave()
        try:
            node.tend()
        except NodeRefused as error:
            node.leave(str(error))
            raise
    reason = "drained" if order is None else _REASONS.get(order, "drained")
    try:
        node.leave(reason)
    finally:
        if order == "":
            node.end_ray()
    say("left", reason)
    return 0
