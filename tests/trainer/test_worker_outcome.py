"""What a worker tells of a trial that ran, or could not: endings of ours, telemetry, conduct."""

import errno
import os
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from eval.seeds import Reseed
from tests.trainer.worker_bench import PATIENCE_S, TTL_S, Bench, FakeCards
from trainer.compile_caches import CacheSeed
from trainer.materialise import Materialiser
from trainer.ports import CodeAway, NoWork
from trainer.retention import Keeper
from trainer.run_folder import RunFolder
from trainer.run_records import Confinement, Limits, RunRequest
from trainer.sandbox.none import NoneSandbox
from trainer.telemetry import GpuSample, Telemetry
from trainer.trial import CommitId, CrashKind, Ending
from trainer.trial_user import TRIAL_UID


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


def test_code_that_cannot_be_had_now_gives_the_trial_back(bench: Bench) -> None:
    bench.code.errors.append(CodeAway("the head does not answer"))
    leases = bench.serve(bench.lease("exit 1"), bench.lease("echo 'loss: 1'", trial="e2.1"))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.is_given_back) == (Ending.LOST, True)
    assert outcome.reason == "CodeAway: the head does not answer"
    assert not leases.outcomes["e2.1"].is_given_back


def test_a_commit_that_cannot_be_checked_out_loses_the_trial(bench: Bench) -> None:
    lease = bench.lease("")
    unknown = replace(lease, spec=replace(lease.spec, commit=CommitId("0123456789" * 4)))
    leases = bench.serve(unknown)
    assert leases.outcomes["e1.1"].ending is Ending.LOST
    assert leases.outcomes["e1.1"].reason.startswith("GitError: git worktree: ")


def test_a_disk_that_is_full_before_a_trial_begins_is_no_fault_of_the_candidate(
    bench: Bench,
) -> None:
    bench.code.errors.append(OSError(errno.ENOSPC, "No space left on device"))
    leases = bench.serve(bench.lease(""))
    assert leases.outcomes["e1.1"].ending is Ending.LOST
    assert "No space left" in leases.outcomes["e1.1"].reason


def test_of_what_broke_the_disk_limit_nothing_is_kept_but_its_log_which_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(Keeper, "note", lambda _, name: counted.append(name))
    bench.limits = Limits(disk_files=20)
    script = "for n in $(seq 50); do echo $n >$INCUMBENT_OUT/$n; done; sleep 600"
    leases = bench.serve(bench.lease(script), bench.lease("echo >$INCUMBENT_OUT/a", trial="e2.1"))
    assert leases.outcomes["e1.1"].crash is CrashKind.DISK_LIMIT
    assert [path.name for path in (bench.paths.study / "out").iterdir()] == ["e2.1-1"]
    assert counted == ["e1.1-1", "e2.1-1"]


def test_a_slot_whose_disk_is_nearly_full_says_so_and_takes_no_trial_before_there_is_room(
    bench: Bench,
) -> None:
    notes = deque(["nearly full", "nearly full", "", ""])
    bench.obstacle = notes.popleft
    lease = bench.lease("echo 'loss: 1'")
    leases = bench.serve(NoWork.WAIT, NoWork.WAIT, lease)
    assert leases.notes == ["nearly full", ""]
    assert leases.outcomes["e1.1"].ending is Ending.SCORED


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
        "echo 'loss: 0.1'; echo melted > prepare.sh; rm cache; sleep 0.3",
        trial="e2.1",
    )
    outcomes = bench.serve(honest, gamed).outcomes
    conduct = outcomes["e1.1"].conduct
    assert (conduct.frozen, conduct.frozen_unchecked, conduct.final_values) == ((), 0, 1)
    assert 0.2 <= (conduct.value_at_s or 0) <= conduct.wall_s < PATIENCE_S
    conduct = outcomes["e2.1"].conduct
    assert conduct.frozen == ("prepare.sh was changed",)
    assert (conduct.value_at_s or PATIENCE_S) <= conduct.wall_s - 0.25


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


def test_the_seed_that_a_repeat_was_given_is_part_of_its_outcome(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.reseed._PATIENCE_S", 60.0)  # however busy the machine is
    bench.editable, bench.seed_pattern = ("train.sh",), r"^seed=(\d+)$"
    script = 'seed=42\necho "loss: $seed"'
    leases = bench.serve(
        bench.lease(script, seed=1),
        bench.lease(script, trial="e1.2", seed=2, is_repeat=True),
        bench.lease("echo 'loss: 7'", trial="e2.2", seed=2, is_repeat=True),
    )
    first, repeat, without = (leases.outcomes[name] for name in ("e1.1", "e1.2", "e2.2"))
    assert (first.value, first.reseeds) == (42.0, ())
    assert repeat.value == 2.0
    assert repeat.reseeds == (Reseed(path="train.sh", line=2, old="42", new="2"),)
    assert (without.value, without.reseeds) == (7.0, ())
