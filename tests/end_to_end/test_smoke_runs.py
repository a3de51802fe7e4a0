"""A script that obeys its budget, and a candidate that would fail at the very end of its run."""

import pytest

from tests.end_to_end.conftest import BY_HAND, CONFIG, MakeStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """#!/bin/sh
X=2
EVALUATE=well
echo "step 1"
sleep $INCUMBENT_BUDGET_S
if [ $EVALUATE != well ]; then echo "no such column" >&2; exit 3; fi
echo "METRIC loss=$X"
"""
OBEYS = "the script obeys INCUMBENT_BUDGET_S, so shorter runs can go first"


def test_a_crash_in_the_evaluation_is_found_before_the_full_run(make_study: MakeStudy) -> None:
    config = BY_HAND + CONFIG.replace("budget_s = 1", "budget_s = 2\nsmoke_s = 0.1")
    study = make_study({"bench.sh": SCRIPT}, config=config)
    study.incumbent("submit", "--set", "EVALUATE=badly")
    study.incumbent("submit", "--set", "X=1")

    done = study.incumbent("run", "-n", "2")

    assert f"scored e0.1: loss 2; {OBEYS}\n" in done.stdout
    assert "crashed e1.1: smoke run: exit code 3: no such column\n" in done.stdout
    state = study.state()
    baseline, late, better = (state.experiments[name] for name in ("e0", "e1", "e2"))
    asked, *again = (trial.outcome for trial in baseline.trials)
    assert asked is not None
    assert asked.probe is not None
    assert asked.probe.wall_s < 1 < asked.conduct.wall_s
    assert [outcome.probe for outcome in again if outcome] == [None, None]  # asked once
    assert (late.last_outcome.rung, late.last_outcome.crash) == ("smoke", "exception")
    assert better.status == "kept"
    assert {path.name for path in study.home.logs.glob("e*.log")} == {
        "e0.1-smoke.log",
        "e0.1.log",
        "e0.2.log",
        "e0.3.log",
        "e1.1-smoke.log",
        "e2.1-smoke.log",
        "e2.1.log",
        "e2.2.log",
    }, "what is repeated has passed its smoke run"
    assert study.incumbent("logs", "e1").stdout == "step 1\nno such column\n"
    assert study.incumbent("logs", "e2").stdout == "step 1\nMETRIC loss=1\n"
    assert OBEYS in study.incumbent("show", "e0").stdout
