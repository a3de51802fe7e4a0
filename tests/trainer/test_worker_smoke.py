"""Trials of two runs: a smoke run, and the full run if that went well."""

import re
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.worker_bench import FOREVER, PATIENCE_S, TTL_S, Bench, first_in_line
from trainer.ports import Heartbeat, Lease, Progress
from trainer.telemetry import Telemetry
from trainer.trial import CrashKind, Ending, Probe, Rung, Smoke, TrialOutcome, TrialSpec

SMOKE_S = 0.25
"""The full run's budget, on the bench, is one second."""
IS_SMOKE = f'[ "$INCUMBENT_BUDGET_S" = {SMOKE_S} ]'
SCORE = 'echo "loss: $INCUMBENT_BUDGET_S"'


def smoked(bench: Bench, script: str, *, is_probe: bool = False, **more: Any) -> Lease:
    smoke = Smoke(budget_s=SMOKE_S, is_probe=is_probe)
    return bench.lease(script, smoke=smoke, **more)


def log(bench: Bench, name: str) -> str | None:
    path = bench.paths.study / "logs" / name
    return path.read_text() if path.exists() else None


def test_a_smoke_run_goes_before_the_full_run_under_the_same_lease(bench: Bench) -> None:
    script = f"{SCORE}; echo kept > $INCUMBENT_OUT/$INCUMBENT_BUDGET_S"
    leases = bench.serve(smoked(bench, script), bench.lease(SCORE, trial="e2.1"))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.value, outcome.rung, outcome.probe) == (1.0, Rung.FULL, None)
    assert set(outcome.stages_s) == {"materialise", "smoke", "train", "start"}
    assert outcome.stages_s["smoke"] > 0
    assert log(bench, "e1.1-smoke.log") == f"loss: {SMOKE_S}\n"
    assert log(bench, "e1.1.log") == "loss: 1\n"
    # Whether it is still wanted is asked between its runs.
    assert leases.calls[:4] == ["hello", "lease", "heartbeat", "complete"]
    assert [each.name for each in (bench.paths.study / "out/e1.1-1").iterdir()] == ["1"]
    assert leases.outcomes["e2.1"].value == 1.0


@pytest.mark.parametrize(
    ("how", "ending", "crash", "reason"),
    [
        ("echo 'loss: 1'; exit 3", Ending.CRASHED, CrashKind.EXCEPTION, "exit code 3"),
        ("exit 0", Ending.CRASHED, CrashKind.NO_METRIC, "the metric is missing"),
        ("echo 'loss: 1'; sleep 600", Ending.TIMED_OUT, None, "time limit"),
    ],
)
def test_a_smoke_run_that_fails_is_the_end_of_its_trial(
    how: str, ending: Ending, crash: CrashKind | None, reason: str, bench: Bench
) -> None:
    bench.keep_gb = 1.0
    script = f"touch $INCUMBENT_OUT/left; if {IS_SMOKE}; then {how}; fi; {SCORE}"
    leases = bench.serve(
        bench.lease(SCORE, trial="e9.1"),
        smoked(bench, script, timeout_s=1.25),
        bench.lease(SCORE, trial="e2.1"),
        on_reserve=first_in_line,
    )
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.crash, outcome.rung) == (ending, crash, Rung.SMOKE)
    assert outcome.reason.startswith("smoke run: ")
    assert reason in outcome.reason
    assert set(outcome.stages_s) == {"materialise", "smoke"}
    assert outcome.telemetry == Telemetry()
    assert log(bench, "e1.1.log") is None
    assert leases.outcomes["e2.1"].value == 1.0
    assert not (bench.paths.study / "out").exists()
    assert list(bench.paths.study.glob("runs/*/*/src")) == []
    counted = dict(re.findall(r"(.+)\t(.+)\n", (bench.paths.study / "kept").read_text()))
    printed = bench.paths.study / "logs" / "e1.1-smoke.log"
    assert [*counted] == ["e9.1-1", "e1.1-1", "e2.1-1"]
    assert counted["e1.1-1"] == str(printed.stat().st_size)


@pytest.mark.parametrize(
    ("script", "ending", "obeys"),
    [
        (f"{IS_SMOKE} || sleep 2; {SCORE}", Ending.SCORED, True),
        (f"{IS_SMOKE} && sleep 1; {SCORE}", Ending.SCORED, False),
        (f"if {IS_SMOKE}; then echo 'too short'; exit 3; fi; {SCORE}", Ending.CRASHED, False),
    ],
)
def test_a_probe_tells_whether_the_script_obeys_and_the_full_run_follows(
    script: str, ending: Ending, obeys: bool, bench: Bench
) -> None:
    leases = bench.serve(smoked(bench, script, is_probe=True))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.value, outcome.rung) == (1.0, Rung.FULL)
    probe = outcome.probe
    assert isinstance(probe, Probe)
    assert (probe.budget_s, probe.ending, probe.obeys) == (SMOKE_S, ending, obeys)
    assert bool(probe.reason) == (ending is not Ending.SCORED)
    assert 0 < probe.wall_s < PATIENCE_S


@pytest.mark.parametrize(
    ("order", "ending"),
    [
        (Heartbeat.CANCEL, Ending.CANCELLED),
        (Heartbeat.GIVE_BACK, Ending.LOST),
        (Heartbeat.GONE, None),
    ],
)
@pytest.mark.parametrize(
    ("is_over", "is_probe"),
    [(False, False), (True, True)],
    ids=["while it runs", "as a probe ends well"],
)
def test_an_order_to_end_leaves_the_full_run_out(
    order: Heartbeat, ending: Ending | None, is_over: bool, is_probe: bool, bench: Bench
) -> None:
    # A lease of a minute hears its first order between the runs.
    script, ttl_s = (SCORE, 60.0) if is_over else (FOREVER, TTL_S)
    leases = bench.serve(
        smoked(bench, script, is_probe=is_probe, ttl_s=ttl_s),
        bench.lease(SCORE, trial="e2.1"),
        on_heartbeat=lambda lease, _: order if lease.spec.trial == "e1.1" else Heartbeat.GO_ON,
    )
    found = leases.outcomes.get("e1.1")
    assert (found and found.ending) == ending
    assert (found is not None and found.is_given_back) == (order is Heartbeat.GIVE_BACK)
    assert log(bench, "e1.1.log") is None
    assert not bench.is_running("e1.1")
    assert leases.outcomes["e2.1"].value == 1.0


def test_a_worker_that_cannot_keep_its_lease_ends_a_smoke_run_too(bench: Bench) -> None:
    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        raise ConnectionError

    leases = bench.serve(smoked(bench, FOREVER, ttl_s=TTL_S), on_heartbeat=heartbeat)
    assert leases.outcomes == {}
    assert log(bench, "e1.1.log") is None


def test_heartbeats_tell_which_run_it_is(bench: Bench, tmp_path: Path) -> None:
    seen: list[Progress] = []

    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        seen.append(progress)
        if progress.last_line == "smoke run: step 7":
            (tmp_path / f"{SMOKE_S}").touch()
        if progress.last_line == "step 7":
            (tmp_path / "1").touch()
        return Heartbeat.GO_ON

    script = f"echo 'step 7'; until [ -e {tmp_path}/$INCUMBENT_BUDGET_S ]; do sleep 0.01; done"
    bench.serve(smoked(bench, f"{script}; {SCORE}", ttl_s=TTL_S), on_heartbeat=heartbeat)
    told = [(progress.last_line, dict(progress.points)) for progress in seen]
    assert list(dict.fromkeys(line for line, _ in told)) == [
        "smoke run",
        "smoke run: step 7",
        "",
        "step 7",
    ]
    assert all(not points for line, points in told if line.startswith("smoke run"))
    assert told[-1] == ("step 7", {"step": 7.0})
    assert seen[-1].elapsed_s > 0


def test_each_run_finds_its_process_waiting_in_the_other_bay(bench: Bench, tmp_path: Path) -> None:
    """All but the very first: the full run's while the smoke run runs, then the next trial's."""
    bench.argv = ("python", "train.sh")
    script = f"""
import os, time
print("loss:", int("preload" in open("/proc/self/cmdline").read()), flush=True)
go = "{tmp_path}/{{trial}}-" + os.environ["INCUMBENT_BUDGET_S"]
while not os.path.exists(go): time.sleep(0.01)
"""
    asked: list[int] = []

    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        # What is to be made ready has been, by the time of a heartbeat.
        if progress.last_line.startswith("smoke run: loss"):
            (tmp_path / f"{lease.spec.trial}-{SMOKE_S}").touch()
        return Heartbeat.GO_ON

    def reserve(left: deque[Any]) -> TrialSpec | None:
        asked.append(len(left))
        # The second question of a full run is asked when what the first named has been armed.
        for trial, rest in (("e1.1", 1), ("e2.1", 0)):
            if asked.count(rest) > 1:
                (tmp_path / f"{trial}-1").touch()
        return first_in_line(left)

    waiting = [
        smoked(bench, script.format(trial=trial), trial=trial, ttl_s=TTL_S)
        for trial in ("e1.1", "e2.1")
    ]
    bench.serve(*waiting, on_heartbeat=heartbeat, on_reserve=reserve)
    logs = ("e1.1-smoke.log", "e1.1.log", "e2.1-smoke.log", "e2.1.log")
    assert [log(bench, name) for name in logs] == [f"loss: {warm}\n" for warm in (0, 1, 1, 1)]


def test_a_full_run_that_we_cannot_start_loses_the_trial(bench: Bench) -> None:
    times = iter([None, OSError("a bad block")])

    def wait_for_cards() -> None:
        if (error := next(times, None)) is not None:
            raise error

    bench.wait_for_cards = wait_for_cards
    leases = bench.serve(smoked(bench, SCORE), bench.lease(SCORE, trial="e2.1"))
    outcome: TrialOutcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.reason) == (Ending.LOST, "OSError: a bad block")
    assert set(outcome.stages_s) == {"materialise", "smoke"}
    assert leases.outcomes["e2.1"].value == 1.0


def test_a_trial_on_a_rung_is_told_its_budget_and_reports_no_score(bench: Bench) -> None:
    lease = smoked(bench, SCORE, budget_s=0.5, is_short=True)
    outcome = bench.serve(lease).outcomes["e1.1"]
    assert (outcome.ending, outcome.value, outcome.short_value) == (Ending.SHORT, None, 0.5)
    assert log(bench, "e1.1-smoke.log") == f"loss: {SMOKE_S}\n"
    assert log(bench, "e1.1.log") == "loss: 0.5\n"
