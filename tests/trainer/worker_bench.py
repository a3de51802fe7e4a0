"""A bench for workers: a real supervisor, real git and real trials; the queue is in memory."""

import os
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.metric import Goal, Metric
from tests.trainer.trials import cpu_slot
from trainer.compile_caches import CacheSeed
from trainer.environment import Environment
from trainer.gpu_watch import GpuWatch
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Heartbeat, Lease, NoWork, Progress, ResultSink, Slot
from trainer.predictor import Predictor
from trainer.run_records import Limits
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.scorer import Scorer
from trainer.supervisor_client import Supervisor
from trainer.telemetry import GpuSample
from trainer.trial import CommitId, ExperimentId, TrialId, TrialOutcome, TrialSpec
from trainer.worker import Worker

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)")
SLOT = cpu_slot()
TTL_S = 0.15
PATIENCE_S = 60.0

FOREVER = "echo started; sleep 600"


@dataclass
class FakeLeaseSource:
    """A queue in memory, which stops its worker when it is empty."""

    waiting: deque[Lease | NoWork | type[ConnectionError]]
    on_heartbeat: Callable[[Lease, Progress], Heartbeat] = lambda *_: Heartbeat.GO_ON
    on_complete: Callable[[], bool] = lambda: True
    on_reserve: Callable[[deque[Any]], TrialSpec | None] = lambda _: None
    calls: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """With which the slot was announced."""
    outcomes: dict[str, TrialOutcome] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)

    def hello(self, slot: Slot) -> None:
        self.calls.append("hello")
        self.notes.append(slot.note)

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        self.calls.append("lease")
        answer = self.waiting.popleft() if self.waiting else NoWork.STOP
        if isinstance(answer, type):
            raise answer
        return answer

    def reserve(self, slot: Slot, patience_s: float) -> TrialSpec | None:
        return self.on_reserve(self.waiting)

    def heartbeat(
        self, slot: Slot, lease: Lease, progress: Progress, patience_s: float
    ) -> Heartbeat:
        self.calls.append("heartbeat")
        return self.on_heartbeat(lease, progress)

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, patience_s: float) -> bool:
        self.calls.append("complete")
        is_accepted = self.on_complete()
        self.outcomes[lease.spec.trial] = outcome
        self.tokens.append(lease.token)
        return is_accepted


@dataclass
class FakeCodeSource:
    """Hands out one repository, after the errors that a test wants."""

    repository: Path
    errors: deque[Exception] = field(default_factory=deque)
    on_fetch: Callable[[CommitId, bool], object] = lambda *_: None

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        self.on_fetch(commit, is_ahead)
        if self.errors:
            raise self.errors.popleft()
        return self.repository

    def lack(self) -> str:
        return ""

    def promoted(self) -> frozenset[ExperimentId]:
        return frozenset()


@dataclass
class FakeTime:
    """Real time, but who sleeps is there at once."""

    slept_s: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return time.monotonic() + sum(self.slept_s)

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


@dataclass
class FakeCards:
    """Cards of the slot, which know when they are looked at and what for."""

    uuids: tuple[str, ...]
    show: Callable[[], GpuSample] = GpuSample
    calls: list[str] = field(default_factory=list)

    def sample(self, uuid: str) -> GpuSample:
        self.calls.append(uuid)
        return self.show()


@dataclass
class Bench:
    """A slot with everything that belongs to it."""

    research: Any
    paths: WorkerPaths
    code: FakeCodeSource
    time: FakeTime = field(default_factory=FakeTime)
    cards: FakeCards = field(default_factory=lambda: FakeCards(()))
    study: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Unlike that of any test that runs at the same time: marks are host-wide."""

    def lease(self, script: str, *, trial: str = "e1.1", ttl_s: float = 60.0, **spec: Any) -> Lease:
        """A lease on a commit whose train.sh is `script`."""
        values: dict[str, Any] = {
            "trial": TrialId(trial),
            "experiment": ExperimentId(trial.partition(".")[0]),
            "attempt": 1,
            "seed": 0,
            "budget_s": 1.0,
            "timeout_s": PATIENCE_S,
        }
        commit = CommitId(self.research.commit({"train.sh": f"# {trial}\n{script}\n"}))
        return Lease(spec=TrialSpec(commit=commit, **{**values, **spec}), token=7, ttl_s=ttl_s)

    sandbox: Sandbox = field(default_factory=NoneSandbox)
    argv: tuple[str, ...] = ("sh", "train.sh")
    wait_for_cards: Callable[[], None] = lambda: None
    seed: CacheSeed | None = None
    limits: Limits | None = None
    obstacle: Callable[[], str] = str
    scorer: Scorer | None = None
    predictor: Predictor | None = None
    results: ResultSink | None = None
    editable: tuple[str, ...] = ()
    seed_pattern: str = ""
    keep_gb: float = 0.0

    def serve(
        self, *waiting: Lease | NoWork | type[ConnectionError], **hooks: Any
    ) -> FakeLeaseSource:
        """Run a worker until a queue that holds `waiting` is empty."""
        leases = FakeLeaseSource(deque(waiting), **hooks)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = Environment(argv=self.argv, variables={"PATH": path})
        materialiser = Materialiser(
            study=self.study,
            slot=SLOT,
            paths=self.paths,
            environment=environment,
            metric=METRIC,
            code=self.code,
            sandbox=self.sandbox,
            preload=("decimal",),
            seed=self.seed,
            limits=self.limits,
            editable=self.editable,
            seed_pattern=self.seed_pattern,
            keep_gb=self.keep_gb,
        )
        Worker(
            slot=SLOT,
            leases=leases,
            materialiser=materialiser,
            supervisors=(Supervisor(), Supervisor()),
            gpus=self.watch(materialiser.mark_prefix),
            scorer=self.scorer,
            predictor=self.predictor,
            wait_for_cards=self.wait_for_cards,
            obstacle=self.obstacle,
            results=self.results,
            clock=self.time.clock,
            sleep=self.time.sleep,
        ).run()
        return leases

    def watch(self, mark_prefix: str) -> GpuWatch:
        """The slot's cards, watched by the time of this bench."""
        return GpuWatch(
            self.cards,
            self.cards.uuids,
            mark_prefix=mark_prefix,
            mark_of=lambda pid: f"{mark_prefix}e1.1" if pid == 1 else "",
            clock=self.time.clock,
        )

    def is_running(self, trial: str) -> bool:
        """Whether a process bears the mark of the slot's trial."""
        mark = f"\0INCUMBENT_TRIAL={self.study}/{SLOT.id}/{trial}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in b"\0" + (folder / "environ").read_bytes():
                    return True
            except OSError:
                continue
        return False


def first_in_line(waiting: deque[Any]) -> TrialSpec | None:
    return waiting[0].spec if waiting and isinstance(waiting[0], Lease) else None
