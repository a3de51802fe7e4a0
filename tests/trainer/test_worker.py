"""One slot's loop over real git, a real supervisor and real trials; the queue is in memory."""

import errno
import os
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from eval.metric import Goal, Metric
from trainer.environment import Environment
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.run_folder import RunFolder
from trainer.run_records import Confinement, RunRequest
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.supervisor_client import Supervisor
from trainer.trial import (
    CommitId,
    CrashKind,
    Ending,
    ExperimentId,
    SlotId,
    TrialId,
    TrialOutcome,
    TrialSpec,
)
from trainer.trial_user import TRIAL_UID
from trainer.worker import Worker

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)")
SLOT = Slot(id=SlotId("cpu-0"), incarnation="a", node="n", device="cpu", device_class="cpu")
TTL_S = 0.15
PATIENCE_S = 60.0

FOREVER = "echo started; sleep 600"


@dataclass
class FakeLeaseSource:
    """A queue in memory, which stops its worker when it is empty."""

    waiting: deque[Lease | NoWork | type[ConnectionError]]
    on_heartbeat: Callable[[Lease, Progress], Heartbeat] = lambda *_: Heartbeat.GO_ON
    on_complete: Callable[[], bool] = lambda: True
    calls: list[str] = field(default_factory=list)
    outcomes: dict[str, TrialOutcome] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)

    def hello(self, slot: Slot) -> None:
        self.calls.append("hello")

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        self.calls.append("lease")
        answer = self.waiting.popleft() if self.waiting else NoWork.STOP
        if isinstance(answer, type):
            raise answer
        return answer

    def heartbeat(self, slot: Slot, lease: Lease, progress: Progress) -> Heartbeat:
        self.calls.append("heartbeat")
        return self.on_heartbeat(lease, progress)

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome) -> bool:
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

    def fetch(self, commit: CommitId) -> Path:
        if self.errors:
            raise self.errors.popleft()
        return self.repository


@dataclass
class FakeTime:
    """Real time, but who sleeps is there at once."""

    slept_s: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return time.monotonic() + sum(self.slept_s)

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


@dataclass
class Bench:
    """A slot with everything that belongs to it."""

    research: Any
    paths: WorkerPaths
    code: FakeCodeSource
    time: FakeTime = field(default_factory=FakeTime)
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

    def serve(
        self, *waiting: Lease | NoWork | type[ConnectionError], **hooks: Any
    ) -> FakeLeaseSource:
        """Run a worker until a queue that holds `waiting` is empty."""
        leases = FakeLeaseSource(deque(waiting), **hooks)
        environment = Environment(argv=("sh", "train.sh"), variables={"PATH": os.environ["PATH"]})
        materialiser = Materialiser(
            study=self.study,
            slot=SLOT,
            paths=self.paths,
            environment=environment,
            metric=METRIC,
            code=self.code,
            sandbox=self.sandbox,
        )
        Worker(
            slot=SLOT,
            leases=leases,
            materialiser=materialiser,
            supervisor=Supervisor(),
            clock=self.time.clock,
            sleep=self.time.sleep,
        ).run()
        return leases

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


@pytest.fixture
def bench(research: Any, tmp_path: Path) -> Bench:
    paths = WorkerPaths(study=tmp_path / "study", environments=tmp_path / "environments")
    return Bench(research=research, paths=paths, code=FakeCodeSource(research.bare))


def test_serves_one_trial_after_the_other_and_stops_when_told(bench: Bench) -> None:
    first = bench.lease("echo 'loss: 0.5'; echo 'steps: 9'", trial="e1.1")
    second = bench.lease("echo 'loss: 0.25'", trial="e2.1")

    leases = bench.serve(first, NoWork.WAIT, second)

    assert leases.calls == ["hello", "lease", "complete", "lease", "lease", "complete", "lease"]
    assert leases.tokens == [7, 7]
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.value, outcome.metrics) == (Ending.SCORED, 0.5, {"steps": 9.0})
    assert leases.outcomes["e2.1"].value == 0.25
    assert set(outcome.stages_s) == {"materialise", "train"}
    assert all(seconds > 0 for seconds in outcome.stages_s.values())
    assert outcome.device_class == "cpu"
    assert (bench.paths.study / "logs/e1.1.log").read_text() == "loss: 0.5\nsteps: 9\n"
    assert not (bench.paths.study / "out").exists()


@pytest.mark.parametrize(
    ("script", "ending", "crash"),
    [
        ("exit 3", Ending.CRASHED, CrashKind.EXCEPTION),
        ("echo 'loss: nan'", Ending.CRASHED, CrashKind.NAN),
        ("kill -SEGV $$", Ending.CRASHED, CrashKind.SIGNAL),
        ("sleep 600", Ending.TIMED_OUT, None),
    ],
)
def test_a_trial_that_fails_is_an_outcome_and_the_next_is_served(
    script: str, ending: Ending, crash: CrashKind | None, bench: Bench
) -> None:
    leases = bench.serve(
        bench.lease(script, timeout_s=0.3), bench.lease("echo 'loss: 1'", trial="e2.1")
    )
    assert (leases.outcomes["e1.1"].ending, leases.outcomes["e1.1"].crash) == (ending, crash)
    assert leases.outcomes["e2.1"].ending is Ending.SCORED


def test_heartbeats_carry_progress(bench: Bench, tmp_path: Path) -> None:
    seen: list[Progress] = []

    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        seen.append(progress)
        if progress.last_line:
            (tmp_path / "go").touch()
        return Heartbeat.GO_ON

    script = f"echo 'step 7 | loss: 2'; until [ -e {tmp_path}/go ]; do sleep 0.01; done"
    bench.serve(bench.lease(script, ttl_s=TTL_S), on_heartbeat=heartbeat)

    assert seen[0] == Progress(elapsed_s=0.0)
    assert seen[-1].last_line == "step 7 | loss: 2"
    assert seen[-1].points == {"step": 7.0, "loss": 2.0}
    assert seen[-1].elapsed_s > 0


@pytest.mark.parametrize(
    ("order", "ending"),
    [(Heartbeat.CANCEL, Ending.CANCELLED), (Heartbeat.GIVE_BACK, Ending.LOST)],
)
def test_an_order_to_end_is_obeyed_and_reported(
    order: Heartbeat, ending: Ending, bench: Bench
) -> None:
    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        return order if progress.last_line else Heartbeat.GO_ON

    leases = bench.serve(bench.lease(FOREVER, ttl_s=TTL_S), on_heartbeat=heartbeat)

    assert leases.outcomes["e1.1"].ending is ending
    assert leases.outcomes["e1.1"].reason
    assert not bench.is_running("e1.1")


def test_what_was_cancelled_stays_cancelled_though_it_ended_well(
    bench: Bench, tmp_path: Path
) -> None:
    script = f"trap 'echo loss: 1; exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done"

    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        return Heartbeat.CANCEL if (tmp_path / "up").exists() else Heartbeat.GO_ON

    leases = bench.serve(bench.lease(script, ttl_s=TTL_S), on_heartbeat=heartbeat)
    assert leases.outcomes["e1.1"].ending is Ending.CANCELLED


def test_a_trial_that_is_no_longer_ours_is_ended_without_a_report(bench: Bench) -> None:
    leases = bench.serve(
        bench.lease(FOREVER, ttl_s=TTL_S),
        bench.lease("echo 'loss: 1'", trial="e2.1"),
        on_heartbeat=lambda *_: Heartbeat.GONE,
    )
    assert set(leases.outcomes) == {"e2.1"}
    assert leases.calls.count("heartbeat") == 1
    assert not bench.is_running("e1.1")


def test_a_worker_that_cannot_keep_its_lease_ends_the_trial_itself(bench: Bench) -> None:
    attempts: list[float] = []

    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        attempts.append(time.monotonic())
        raise ConnectionError

    lost = bench.lease(FOREVER, ttl_s=TTL_S)
    following = bench.lease("echo 'loss: 1'", trial="e2.1")
    began = time.monotonic()
    leases = bench.serve(lost, following, on_heartbeat=heartbeat)
    assert attempts[-1] - began >= TTL_S
    assert set(leases.outcomes) == {"e2.1"}
    assert not bench.is_running("e1.1")


def test_a_queue_that_is_away_for_less_than_the_lease_costs_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    answers = iter([True, False, True, False])

    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        is_away = next(answers, None)
        if is_away:
            raise ConnectionError
        if is_away is None:
            (tmp_path / "go").touch()
        return Heartbeat.GO_ON

    # Long against the hiccups of a busy machine; four heartbeats, a third of it apart, outlast it.
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo 'loss: 1'"
    leases = bench.serve(bench.lease(script, ttl_s=1.5), on_heartbeat=heartbeat)
    assert leases.outcomes["e1.1"].ending is Ending.SCORED


def test_an_outcome_is_offered_until_the_queue_is_back(bench: Bench) -> None:
    answers = iter([False] * 5)

    def complete() -> bool:
        for _ in answers:
            raise ConnectionError
        return True

    lease = bench.lease("echo 'loss: 1'")
    leases = bench.serve(lease, on_complete=complete)
    assert leases.calls.count("complete") == 6
    assert leases.outcomes["e1.1"].value == 1.0


def test_an_outcome_is_dropped_long_after_its_lease_has_ended(bench: Bench) -> None:
    def complete() -> bool:
        raise ConnectionError

    lease = bench.lease("echo 'loss: 1'", ttl_s=5.0)
    leases = bench.serve(lease, on_complete=complete)
    assert leases.outcomes == {}
    assert sum(bench.time.slept_s) == pytest.approx(50.0, abs=1.0)
    assert leases.calls[-1] == "lease"


def test_an_outcome_that_is_refused_is_not_offered_again(bench: Bench) -> None:
    leases = bench.serve(bench.lease("echo 'loss: 1'"), on_complete=lambda: False)
    assert leases.calls.count("complete") == 1


def test_the_slot_is_announced_again_when_the_queue_was_away(bench: Bench) -> None:
    lease = bench.lease("echo 'loss: 1'")
    leases = bench.serve(ConnectionError, ConnectionError, lease)
    assert leases.calls == ["hello", "lease"] * 3 + ["complete", "lease"]
    assert len(bench.time.slept_s) == 2


@pytest.mark.parametrize(
    "error",
    [LookupError("nobody has it"), ConnectionError("the network is down"), OSError("a bad block")],
)
def test_a_failure_of_ours_loses_the_trial_with_the_reason_and_the_loop_goes_on(
    error: Exception, bench: Bench
) -> None:
    bench.code.errors.append(error)
    leases = bench.serve(bench.lease("exit 1"), bench.lease("echo 'loss: 1'", trial="e2.1"))
    outcome = leases.outcomes["e1.1"]
    assert outcome.ending is Ending.LOST
    assert outcome.reason == f"{type(error).__name__}: {error}"
    assert leases.outcomes["e2.1"].ending is Ending.SCORED


def test_a_commit_that_cannot_be_checked_out_loses_the_trial(bench: Bench) -> None:
    lease = bench.lease("")
    unknown = replace(lease, spec=replace(lease.spec, commit=CommitId("0123456789" * 4)))
    leases = bench.serve(unknown)
    assert leases.outcomes["e1.1"].ending is Ending.LOST
    assert leases.outcomes["e1.1"].reason.startswith("GitError: git worktree: ")


def test_a_full_disk_is_a_crash_of_its_own_kind(bench: Bench) -> None:
    bench.code.errors.append(OSError(errno.ENOSPC, "No space left on device"))
    leases = bench.serve(bench.lease(""))
    assert leases.outcomes["e1.1"].crash is CrashKind.DISK_FULL


def test_a_broken_slot_takes_trials_ever_more_slowly(bench: Bench) -> None:
    bench.code.errors.extend(LookupError("x") for _ in range(7))
    leases = [bench.lease("echo 'loss: 1'", trial=f"e{number}.1") for number in range(9)]
    last = leases[-1].spec.trial
    bench.code.errors.append(LookupError("x"))
    answered = bench.serve(*leases)
    assert bench.time.slept_s == [1, 2, 4, 8, 16, 30, 30, 30]
    assert answered.outcomes[last].ending is Ending.SCORED


class BrokenSandbox(NoneSandbox):
    """A sandbox whose bwrap was removed, for as many trials as a test wants."""

    def __init__(self, times: int) -> None:
        self.times = times

    def confine(self, request: RunRequest, run: RunFolder) -> RunRequest:
        self.times -= 1
        if self.times < 0:
            return request
        confinement = Confinement(
            program="/nowhere/bwrap",
            uid=TRIAL_UID if os.geteuid() == 0 else None,
            binds=(),
            home="/home",
            home_bytes=1,
            tmp_bytes=1,
            shm_bytes=1,
        )
        return replace(request, confinement=confinement)


def test_a_slot_that_makes_no_sandbox_loses_trials_and_takes_them_ever_more_slowly(
    bench: Bench,
) -> None:
    bench.sandbox = BrokenSandbox(3)
    leases = [bench.lease("echo 'loss: 1'", trial=f"e{number}.1") for number in range(4)]
    outcomes = bench.serve(*leases).outcomes
    assert [each.ending for each in outcomes.values()] == [Ending.LOST] * 3 + [Ending.SCORED]
    assert "/nowhere/bwrap" in outcomes["e0.1"].reason
    assert bench.time.slept_s == [1, 2, 4]


def test_what_an_earlier_worker_left_on_the_slot_is_ended_first(bench: Bench) -> None:
    def start(mark: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            env={"INCUMBENT_TRIAL": mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    with start(f"{bench.study}/cpu-0/e0.1") as left, start(f"{bench.study}/cpu-01/e0") as neighbour:
        for process in (left, neighbour):
            assert process.stdout is not None
            process.stdout.readline()
        bench.serve()
        assert left.wait(PATIENCE_S) == -9
        assert neighbour.poll() is None


def test_nothing_of_a_trial_is_left_when_the_loop_is_broken_off(bench: Bench) -> None:
    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.serve(bench.lease(FOREVER, ttl_s=TTL_S), on_heartbeat=heartbeat)
    assert not bench.is_running("e1.1")
