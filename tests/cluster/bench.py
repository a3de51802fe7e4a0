"""A study over a real server and real git, whose slots are threads that compute scores."""

import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.controller.context_book import ContextBook
from cluster.controller.controller import Controller
from cluster.controller.controller_parts import Parts
from cluster.controller.curve_book import CurveBook
from cluster.controller.optuna_pruners import pruning_rule
from cluster.controller.performer import Performer
from cluster.controller.ports import FleetProblem
from cluster.controller.scratchpad import FILE, Scratchpad
from cluster.git.mirror import Mirror
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import load
from cluster.ledger.progress import ProgressStore
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.policy.study_plan import StudyPlan, seats
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.invariants import check
from cluster.state.state import StudyState
from eval.config import PrunerConfig
from eval.judge import GreedyJudge
from eval.metric import Goal, Metric
from proposer.proposal import Context, Proposal, TaskKind
from trainer.ports import Lease, Slot
from trainer.preflight import Preflight
from trainer.trial import CommitId, CrashKind, Ending, SlotId, TrialOutcome

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss: (\S+)")
START = "A = 1\n\n\n# between\n\n\nB = 1\n"


def loss_of(text: str) -> TrialOutcome:
    """A is best at 3 and B at 5; a file without them crashes."""
    found = dict(re.findall(r"^(A|B) = (\d+)$", text, re.MULTILINE))
    if set(found) != {"A", "B"}:
        return TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.EXCEPTION, reason="NameError")
    return TrialOutcome(
        ending=Ending.SCORED, value=float(abs(int(found["A"]) - 3) + abs(int(found["B"]) - 5))
    )


class ThreadFleet:
    """Slots as threads: each leases, scores the file of the leased commit, and completes."""

    def __init__(
        self, bench: "Bench", slots: int, *, together: int = 1, classes: Sequence[str] = ("cpu",)
    ) -> None:
        self._bench = bench
        self._classes = classes
        self._barrier = threading.Barrier(together) if together > 1 else None
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(slots)
        ]
        self.problems: list[FleetProblem] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def check(self) -> Sequence[FleetProblem]:
        found, self.problems = self.problems, []
        return found

    def shutdown(self) -> None:
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def node(self, _number: int) -> str:
        return "here"

    def hold(self, lease: Lease) -> None:
        """Delay a result, where a test needs an order."""

    def _serve(self, number: int) -> None:
        queue = RedisTrialQueue(self._bench.store())
        kind = self._classes[number % len(self._classes)]
        slot = Slot(
            id=SlotId(f"cpu-{number}"),
            incarnation=uuid.uuid4().hex,
            node=self.node(number),
            device="cpu",
            device_class=kind,
        )
        queue.greet(slot, now=now())
        while queue.mode() is not QueueMode.DRAINING:
            lease = queue.lease(slot, now=now(), ttl_s=30) if queue.mode() == "open" else None
            if lease is None:
                threading.Event().wait(0.005)
                continue
            if self._barrier is not None and lease.spec.experiment != "e0":
                self._barrier.wait(timeout=30)
                self._barrier = None
            self.hold(lease)
            outcome = replace(self.outcome(lease, slot), device_class=kind)
            queue.complete(slot, lease, outcome, now=now())

    def outcome(self, lease: Lease, slot: Slot) -> TrialOutcome:
        text = self._bench.repository.git.text("show", f"{lease.spec.commit}:train.py")
        return loss_of(text)


def now() -> datetime:
    return datetime.now(UTC)


class Script:
    """A proposer that says what it was told to, one list of files an answer."""

    name = "script"
    tasks: frozenset[TaskKind] = frozenset()
    advice = ""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.contexts: list[Context] = []

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        self.contexts.append(context)
        texts = self._answers.pop(0) if self._answers else []
        return [
            Proposal(edits={"train.py": text}, hypothesis=" ".join(text.split()))
            for text in texts[:count]
        ]


@dataclass
class Bench:
    """One study: a user's repository, the study's own, and keys in the server."""

    url: str
    study: str
    user: Path
    repository: StudyRepository
    base: CommitId
    notices: list[str] = field(default_factory=list)
    clients: list[RedisStore] = field(default_factory=list)

    def store(self) -> RedisStore:
        made = RedisStore(connect(self.url), self.study)
        self.clients.append(made)
        return made

    @property
    def ledger(self) -> RedisLedger:
        return RedisLedger(self.store())

    def controller(
        self,
        fleet: Callable[["Bench"], ThreadFleet],
        *proposers: Script,
        experiments: int = 0,
        preflight: Preflight | None = None,
        pruner: PrunerConfig | None = None,
        finish: Callable[[Callable[[], StudyState]], None] = lambda _look: None,
        **plan: Any,
    ) -> Controller:
        ledger = self.ledger
        epoch = ledger.begin_epoch()
        started = ev.ControllerStarted(epoch=epoch, pid=1, node="here")
        ledger.append([ev.Draft(id=f"controller/{epoch}", at=now(), event=started)])
        queue = RedisTrialQueue(self.store())
        performer = Performer(
            ledger=ledger,
            queue=queue,
            repository=self.repository,
            source=self.user,
            editable=("train.py",),
            metric=METRIC,
            budget_s=1,
            timeout_s=2,
            epoch=epoch,
            clock=now,
            preflight=preflight,
        )
        study_plan = StudyPlan(
            metric=METRIC,
            judge=GreedyJudge(metric=METRIC),
            proposers=seats(*(proposer.name for proposer in proposers)),
            slots=2,
            most_experiments=experiments,
            **plan,
        )
        rule = pruning_rule(pruner, METRIC.goal) if pruner else None
        curves = CurveBook(ProgressStore(self.store()), rule, 1.0) if rule else None
        pad = Scratchpad(self.repository.path.parent / FILE, self.repository, limit_chars=10_000)
        parts = Parts(
            ledger=ledger,
            waiting_ledger=self.ledger,
            queue=queue,
            performer=performer,
            mirror=Mirror(self.repository, self.user),
            fleet=fleet(self),
            proposers=proposers,
            observers=[curves] if curves else [],
            plan=study_plan,
            contexts=ContextBook(self.repository, ("train.py",), scratchpad=pad.read),
            note=pad.add,
            epoch=epoch,
            clock=now,
            notify=self.notices.append,
            revive=lambda: None,
            curves=curves,
            finish=finish,
        )
        return Controller(parts, load(ledger))

    def ask(self, event: ev.Event) -> None:
        self.ledger.append([ev.Draft(id=uuid.uuid4().hex, at=now(), event=event)])

    def branch(self) -> list[str]:
        shown = self.repository.git.text("log", "--format=%s", self.repository.branch_ref)
        return shown.splitlines()

    def head_text(self) -> str:
        return self.repository.git.text("show", f"{self.repository.branch_ref}:train.py")


@pytest.fixture
def bench(tmp_path: Path, server_url: str, study_id: str, make_repository) -> Iterator[Bench]:
    user = make_repository({"train.py": START, "prepare.py": "frozen\n"})
    repository = StudyRepository.create(
        tmp_path / "study.git", study="s", source=user.path, base="HEAD"
    )
    base = repository.resolve(user.git("rev-parse", "HEAD"))
    made = Bench(url=server_url, study=study_id, user=user.path, repository=repository, base=base)
    started = ev.StudyStarted(study="s", base_commit=base, metric="loss", goal="minimize")
    made.ledger.append([ev.Draft(id="study", at=now(), event=started)])
    yield made
    check(load(made.ledger))
    for store in made.clients:
        store.client.close()


def edited(**constants: int) -> str:
    text = START
    for name, value in constants.items():
        text = text.replace(f"{name} = 1\n", f"{name} = {value}\n")
    return text


def statuses(state: StudyState) -> dict[str, Status]:
    return {experiment: record.status for experiment, record in state.experiments.items()}
