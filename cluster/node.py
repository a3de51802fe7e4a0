"""A node: the driver of Ray on a machine that joined a study. On the head that is cluster.fleet.

It reads the study's board and sees whether the two fit, joins its Ray, makes the machine ready for
trials, has workers for its slots, and says every other second that it lives. What becomes of the
study meanwhile it learns by that, and when the head comes back as another study or with other
terms, it ends and is started anew.

Protocol: settings as JSON in the file named by the only argument; reports as JSON lines on standard
output (`phase`, `joined`, `leaving`, `problem`; the last is `away`, `stopped`, `fatal`, `denied` or
`left`). On standard input, `leave` has it finish what runs and go, `now` has it go at once; until
it has joined, both do. At the end of file it goes, too, and ends its Ray: whoever would have done
that was killed.
"""

import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

from cluster.board import Board, BoardAway, StudyStopped, WrongToken
from cluster.brief import Brief, NodeFacts, Order, Refusal, Versions
from cluster.codec import from_json
from cluster.crew import Crew, CrewFailed, Post, cause
from cluster.driver import BrokenOff, Orders, leave_with, say
from cluster.ledger import LedgerAway
from cluster.node_repository import NodeRepository
from cluster.node_settings import NodeSettings
from cluster.ours import assert_ours
from cluster.queue_actor import QUEUE
from cluster.ray_cluster import PrivateRay
from cluster.ray_depot import RayDepot
from cluster.reach import address_towards, split
from cluster.remote_code import RemoteCode
from trainer.config import TrialConfig
from trainer.disk_room import lack_of_room
from trainer.environment import EnvironmentFailed, prepare
from trainer.git_command import GitError
from trainer.gpu import NvmlGpus
from trainer.hidden_labels import place_of
from trainer.limit_defaults import machine_memory
from trainer.paths import WorkerPaths
from trainer.sandbox.arrange import arrange
from trainer.sandbox.choose import choose
from trainer.sandbox.diagnosis import Diagnosis
from trainer.trial import CommitId
from trainer.worktree import locked

BEAT_S = 2.0
CALL_S = 10.0
"""How long the queue may take to answer a beat before the head counts as away."""
CHECK_S = 0.25
FETCH_S = 600.0
"""How long the base commit may take to come over, with all its history."""
REFUSED = 2
AWAY = 3
FAILED = 1
"""Exit codes: it does not fit; the head is not there; something else, worth another try."""


_REASONS = {"now": "left at once", "": "its node process has ended"}
"""Why a node has left, by the order at which it did."""


class NodeRefused(RuntimeError):
    """A machine cannot work for the study; the message says why and what to do."""


class NameTaken(NodeRefused):
    """Another machine of the study goes by this name."""


class HeadChanged(ConnectionError):
    """The study has other terms than those by which this machine was prepared."""


class _Node:
    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._address = address_towards(*split(settings.head))
        self._board = Board(settings.head)
        self._brief = self._terms()
        self._private = PrivateRay(
            runtime=Path(settings.runtime),
            directory=Path(settings.directory),
            empty=Path(settings.empty),
            head=f"{settings.head} {self._brief.ray}",
        )
        self._paths = WorkerPaths(
            study=study_folder(Path(settings.directory), self._brief.study, self._brief.base),
            environments=Path(settings.environments),
        )
        self._queue: Any = None
        self._crew: Crew | None = None
        self._beat_at = 0.0
        self._facts: NodeFacts | None = None
        self._is_leaving = False
        self._is_asking = False
        self._is_ending = False
        self._fault = ""
        self._problems: list[str] = []
        """What ails its workers and was not told yet."""

    def _terms(self) -> Brief:
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
        slots = slots_asked(self._settings.slots, self._brief.trial)
        post = Post(node=self._settings.node, paths=self._paths, slots=slots)
        crew = self._crew = Crew(self._brief, post, self._hear)
        self._require_machine(crew.settings.trial)
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
            self._make_ready(crew)
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

    def _taken(self) -> NameTaken:
        return NameTaken(
            f"the study has a node {self._settings.node} already: give this one another name with "
            "--name"
        )

    def _require_machine(self, trial: TrialConfig) -> None:
        """See at once what would be found out late; raises NodeRefused."""
        if trial.gpus and not NvmlGpus().look():
            raise NodeRefused(
                f"a trial needs {trial.gpus:g} GPU, and the driver shows none on this machine "
                "(`incumbent doctor` says more)"
            )
        if problem := lack_of_room(Path(self._settings.directory)):
            raise NodeRefused(problem)
        found = choose() if trial.sandbox != "none" else None
        if isinstance(found, Diagnosis):
            raise NodeRefused(f"no sandbox for trials: {found.text()}")

    def _make_ready(self, crew: Crew) -> None:
        """Fetch the base commit, make the environment, run `setup`, look at what is needed."""
        say("phase", "fetching the code")
        base = CommitId(self._brief.base)
        here = NodeRepository(self._paths.repository, pinned=base)
        repository = RemoteCode(RayDepot(), here, patience_s=FETCH_S).fetch(base)
        say("phase", "preparing the environment")
        settings = crew.settings
        environment = prepare(
            settings.trial,
            base=base,
            repository=repository,
            paths=self._paths,
            study=self._brief.study,
            show=lambda line: say("phase", f"preparing: {line.strip()[:200]}"),
        )
        # Each worker does so again, where what is refused would be tried again and again.
        trial = settings.trial
        arrange(trial.sandbox, environment=environment, data=trial.data, paths=self._paths)
        if settings.score is not None:
            place_of(settings.score.labels)

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
        if self._problems:
            self._board.brief()  # a study that stops ends its workers everywhere: no problem
            for text in self._problems:
                say("problem", text)
            self._problems.clear()
        if time.monotonic() - self._beat_at < BEAT_S:
            return
        if self._board.brief() != self._brief:
            raise HeadChanged("the study has other terms now")
        # Ray is starting the queue again, or the ledger is away: the next beat asks.
        with suppress(ray.exceptions.ActorUnavailableError, LedgerAway):
            if self._beat() is Order.LEAVE and not self._is_leaving:
                say("leaving", "finishing what runs, then leaving")
                self._is_leaving = True
            if self._is_asking:
                with suppress(ray.exceptions.RayTaskError):
                    ray.get(self._queue.drain.remote(self._settings.node), timeout=CALL_S)
                    self._is_asking = False

    def ask_to_leave(self) -> None:
        """Have the study give this node nothing more: it then orders it to leave."""
        self._is_asking = True

    @property
    def has_left(self) -> bool:
        """Say whether the node was to leave and nothing of it runs any more."""
        return self._is_leaving and (self._crew is None or self._crew.is_home)

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


def study_folder(directory: Path, study: str, base: str) -> Path:
    """Return (and make) where a node keeps what is of one study, by its id and first commit.

    Another one may be at the same address later, or the same be begun anew: it has trials of the
    same names, and is not to be sent the results of these.
    """
    digest = hashlib.sha256(f"{study} {base}".encode()).hexdigest()[:10]
    path = directory / f"study-{digest}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def slots_asked(asked: int, trial: Mapping[str, object]) -> int:
    """Return how many slots a crew is to have at most; 0 is as many as there are GPUs for."""
    has_cards = TrialConfig.model_validate_json(json.dumps(dict(trial))).gpus > 0
    return asked if has_cards else asked or cpu_slots()


def cpu_slots() -> int:
    """Return how many CPU slots a node brings unless told: half its cores, and at least 1."""
    return max(1, (os.cpu_count() or 1) // 2)


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
    with locked(directory / "driver.lock"):
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
    while not node.has_left and order not in {"", "now"}:
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
