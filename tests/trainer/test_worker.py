"""One slot's loop over real git, a real supervisor and real trials: work, leases and orders."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trainer.worker_bench import FOREVER, PATIENCE_S, TTL_S, Bench
from trainer.ports import Heartbeat, Lease, NoWork, Progress
from trainer.trial import CrashKind, Ending


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
    [
        (Heartbeat.CANCEL, Ending.CANCELLED),
        (Heartbeat.PRUNE, Ending.PRUNED),
        (Heartbeat.GIVE_BACK, Ending.LOST),
    ],
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
    assert attempts[-1] - began >= 0.8 * TTL_S
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
