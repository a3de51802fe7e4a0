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
from trainer.compile_caches import CacheSeed
from trainer.environment import Environment
from trainer.gpu_watch import GpuWatch
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.run_folder import RunFolder
from trainer.run_records import Confinement, RunRequest
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.supervisor_client import Supervisor
from trainer.telemetry import GpuSample, Telemetry
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
    on_reserve: Callable[[deque[Any]], TrialSpec | None] = lambda _: None
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

    def reserve(self, slot: Slot) -> TrialSpec | None:
        return self.on_reserve(self.waiting)

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
        )
        Worker(
            slot=SLOT,
            leases=leases,
            materialiser=materialiser,
            supervisors=(Supervisor(), Supervisor()),
            gpus=self.watch(materialiser.mark_prefix),
            wait_for_cards=self.wait_for_cards,
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
    assert set(outcome.stages_s) == {"materialise", "train", "start"}
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


@pytest.mark.parametrize(("ending", "is_kept"), [("echo 'loss: 1'", True), ("exit 3", False)])
def test_later_trials_start_with_what_a_baseline_that_was_scored_has_compiled(
    ending: str, is_kept: bool, bench: Bench
) -> None:
    first = bench.lease(f"echo compiled >../cache/kernel; {ending}", trial="e0.1")
    second = bench.lease("cat ../cache/kernel; echo poison >../cache/kernel; echo 'loss: 1'")
    third = bench.lease("cat ../cache/kernel; echo 'loss: 1'", trial="e2.1")
    bench.seed = CacheSeed(base=first.spec.commit, place=bench.paths.cache_seed("n", "cpu"))

    leases = bench.serve(first, second, third)

    assert leases.outcomes["e2.1"].ending is Ending.SCORED
    for trial in ("e1.1", "e2.1"):
        said = (bench.paths.study / f"logs/{trial}.log").read_text()
        assert said.startswith("compiled\n") == is_kept
        assert "poison" not in said


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


# Telemetry


def test_cards_are_looked_at_from_go_to_the_end_and_told_in_the_outcome(
    bench: Bench, tmp_path: Path
) -> None:
    energy = iter(range(100, 10_000, 100))

    def show() -> GpuSample:
        if len(bench.cards.calls) >= 4:
            (tmp_path / "go").touch()
        return GpuSample(
            used_mb=900.0,
            processes={1: 700.0, 2: 60.0},
            energy_j=next(energy),
            throttle=frozenset(),
        )

    bench.cards = FakeCards(("GPU-a",), show)
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo 'loss: 1'"
    leases = bench.serve(bench.lease(script, ttl_s=TTL_S), bench.lease("exit 3", trial="e2.1"))

    gpu = leases.outcomes["e1.1"].telemetry.gpu
    assert gpu.samples >= 3
    assert (gpu.vram_peak_mb, gpu.stranger_mb, gpu.throttled_s) == (700.0, 60.0, 0.0)
    assert gpu.energy_j == 100 * (gpu.samples + 1)
    following = leases.outcomes["e2.1"].telemetry.gpu
    assert following.energy_j == 100 * (following.samples + 1)


def test_a_slot_without_cards_tells_of_none(bench: Bench) -> None:
    leases = bench.serve(bench.lease("echo 'loss: 1'"))
    telemetry = leases.outcomes["e1.1"].telemetry
    assert telemetry.gpu is None
    assert telemetry.wall_s > 0
    assert telemetry.memory_peak_mb > 0
    assert (telemetry.steps_per_s, telemetry.step_counter) == (None, "")


def test_a_trial_that_never_ran_has_no_telemetry(bench: Bench) -> None:
    bench.code.errors.append(LookupError("nobody has it"))
    leases = bench.serve(bench.lease("echo 'loss: 1'"))
    assert leases.outcomes["e1.1"].telemetry == Telemetry()


def test_the_outcome_tells_how_a_scored_trial_behaved(bench: Bench) -> None:
    bench.research.commit({"prepare.sh": "frozen"})
    honest = bench.lease("echo new > cache; sleep 0.2; echo 'loss: 1'", trial="e1.1")
    gamed = bench.lease(
        "echo 'loss: 0.1'; echo melted > prepare.sh; rm cache; sleep 0.2; echo 'loss: 0.1'",
        trial="e2.1",
    )
    outcomes = bench.serve(honest, gamed).outcomes
    conduct = outcomes["e1.1"].conduct
    assert (conduct.frozen, conduct.frozen_unchecked, conduct.final_values) == ((), 0, 1)
    assert 0.2 <= (conduct.value_at_s or 0) <= conduct.wall_s < PATIENCE_S
    conduct = outcomes["e2.1"].conduct
    assert conduct.frozen == ("prepare.sh was changed",)
    assert (conduct.value_at_s or PATIENCE_S) < 0.2 < conduct.wall_s


def test_frozen_files_that_cannot_be_checked_are_told_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(Materialiser, "inspect", fail)
    outcome = bench.serve(bench.lease("echo 'loss: 1'")).outcomes["e1.1"]
    assert outcome.ending is Ending.SCORED
    assert outcome.conduct.frozen == (
        "frozen files could not be checked ([Errno 5] the disk is broken)",
    )


# The next trial, made ready while one runs


def first_in_line(waiting: deque[Any]) -> TrialSpec | None:
    return waiting[0].spec if waiting and isinstance(waiting[0], Lease) else None


@pytest.fixture
def until_ready(bench: Bench) -> str:
    """Shell code that waits for the next trial's files, which are seen in another run folder."""
    runs = bench.paths.run(SLOT.id, 0).parent
    return f"until [ $(ls {runs} | wc -l) = 2 ]; do sleep 0.01; done"


def test_the_next_trial_is_made_ready_and_begins_before_the_last_is_reported(
    bench: Bench, until_ready: str
) -> None:
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
    )
    assert leases.calls == ["hello", "lease", "lease", "complete", "complete", "lease"]
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [1.0, 2.0]
    assert leases.outcomes["e2.1"].stages_s["materialise"] < 0.05
    assert not any(bench.paths.run(SLOT.id, 0).parent.rglob("train.sh"))


def test_a_python_script_finds_its_process_waiting(bench: Bench, tmp_path: Path) -> None:
    """In turns, in both bays; the first alone starts cold."""
    bench.argv = ("python", "train.sh")
    script = """
import os, time
print("loss:", int("preload" in open("/proc/self/cmdline").read()))
while not os.path.exists("{go}"): time.sleep(0.01)
"""
    gos = [tmp_path / f"go-{number}" for number in range(4)]
    waiting = [
        bench.lease(script.format(go=go), trial=f"e{number}.1") for number, go in enumerate(gos)
    ]

    def reserve(left: deque[Any]) -> TrialSpec | None:
        done = 4 - len(left)
        # The second question of a trial is asked when what the first named has been armed.
        asked[done] = asked.get(done, 0) + 1
        if asked[done] > 1 or not left:
            gos[done - 1].touch()
        return first_in_line(left)

    asked: dict[int, int] = {}
    leases = bench.serve(*waiting, on_reserve=reserve)
    values = [leases.outcomes[f"e{number}.1"].value for number in range(4)]
    assert values == [0.0, 1.0, 1.0, 1.0]


def test_something_more_urgent_than_what_is_ready_runs_first(
    bench: Bench, until_ready: str
) -> None:
    prepared = bench.lease("echo 'loss: 3'", trial="e3.1")
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        prepared,
        on_reserve=lambda waiting: prepared.spec if prepared in waiting else None,
    )
    assert list(leases.outcomes) == ["e1.1", "e2.1", "e3.1"]
    assert [outcome.value for outcome in leases.outcomes.values()] == [1.0, 2.0, 3.0]


def test_what_another_slot_took_is_let_go_of(bench: Bench, until_ready: str) -> None:
    taken = bench.lease("touch ran", trial="e9.1").spec
    answers = iter([taken])
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        NoWork.WAIT,
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=lambda _: next(answers, None),
    )
    assert {name: each.value for name, each in leases.outcomes.items()} == {"e1.1": 1, "e2.1": 2}


def test_a_queue_that_names_nothing_for_a_while_costs_nothing(bench: Bench) -> None:
    def reserve(_: deque[Any]) -> TrialSpec | None:
        raise ConnectionError

    leases = bench.serve(
        bench.lease("echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=reserve,
    )
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [1.0, 2.0]


def test_what_could_not_be_made_ready_fails_when_its_turn_has_come(
    bench: Bench, tmp_path: Path
) -> None:
    lease = bench.lease("", trial="e2.1")
    unknown = replace(lease, spec=replace(lease.spec, commit=CommitId("0123456789" * 4)))
    asked: list[int] = []

    def reserve(waiting: deque[Any]) -> TrialSpec | None:
        asked.append(1)
        if len(asked) == 2:
            (tmp_path / "go").touch()
        return first_in_line(waiting)

    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo 'loss: 1'"
    leases = bench.serve(bench.lease(script), unknown, on_reserve=reserve)
    assert leases.outcomes["e1.1"].value == 1.0
    assert leases.outcomes["e2.1"].reason.startswith("GitError: ")


def test_the_last_outcome_comes_before_the_failure_of_the_next(
    bench: Bench, until_ready: str
) -> None:
    """What was ready is not what is leased, and that cannot be had."""
    ready = bench.lease("", trial="e3.1").spec
    lease = bench.lease("", trial="e2.1")
    unknown = replace(lease, spec=replace(lease.spec, commit=CommitId("0123456789" * 4)))
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"), unknown, on_reserve=lambda _: ready
    )
    assert list(leases.outcomes) == ["e1.1", "e2.1"]
    assert leases.outcomes["e2.1"].ending is Ending.LOST
    assert bench.time.slept_s == [1]


def test_an_outcome_is_offered_while_the_next_trial_runs(
    bench: Bench, until_ready: str, tmp_path: Path
) -> None:
    answers = iter([False, False])

    def complete() -> bool:
        for _ in answers:
            raise ConnectionError
        (tmp_path / "taken").touch()
        return True

    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease(
            f"until [ -e {tmp_path}/taken ]; do sleep 0.01; done; echo 'loss: 2'",
            trial="e2.1",
            ttl_s=TTL_S,
        ),
        on_reserve=first_in_line,
        on_complete=complete,
    )
    assert list(leases.outcomes) == ["e1.1", "e2.1"]
    assert leases.outcomes["e2.1"].value == 2.0


@pytest.mark.parametrize(
    ("order", "ending"),
    [(Heartbeat.CANCEL, Ending.CANCELLED), (Heartbeat.GIVE_BACK, Ending.LOST)],
)
def test_an_order_to_end_is_for_the_trial_that_runs_alone(
    order: Heartbeat, ending: Ending, bench: Bench, until_ready: str
) -> None:
    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        is_meant = lease.spec.trial == "e1.1" and progress.last_line
        return order if is_meant else Heartbeat.GO_ON

    leases = bench.serve(
        bench.lease(f"{until_ready}; {FOREVER}", ttl_s=TTL_S),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
        on_heartbeat=heartbeat,
    )
    assert leases.outcomes["e1.1"].ending is ending
    assert leases.outcomes["e2.1"].value == 2.0


def test_the_cards_are_waited_for_when_the_trial_before_is_dead(
    bench: Bench, until_ready: str
) -> None:
    seen: list[bool] = []
    bench.wait_for_cards = lambda: seen.append(bench.is_running("e1.1"))
    bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
    )
    assert seen == [False, False]


def test_nothing_waits_any_more_when_the_worker_leaves(bench: Bench, until_ready: str) -> None:
    bench.argv = ("python", "train.sh")
    ready = bench.lease("print('never')", trial="e2.1").spec
    script = f"import subprocess; subprocess.run({until_ready!r}, shell=True); print('loss: 1')"
    leases = bench.serve(bench.lease(script), on_reserve=lambda _: ready)
    assert leases.outcomes["e1.1"].value == 1.0
    assert not bench.is_running("e2.1")
    assert not any(bench.paths.run(SLOT.id, 0).parent.rglob("train.sh"))
