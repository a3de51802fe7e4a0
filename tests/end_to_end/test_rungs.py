"""Candidates of a script that obeys its budget, of which the best alone are run in full."""

import pytest

from tests.end_to_end.conftest import BY_HAND, CONFIG, MakeStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """#!/bin/sh
X=2
sleep $INCUMBENT_BUDGET_S
echo "METRIC loss=$X"
"""
ONE_SLOT = CONFIG.replace("slots = 2", "slots = 1")
"""So that the worst is the last: of several slots one may be late, and it among the first few."""
RUNG = '[judge]\npolicy = "greedy"\n[[rung]]\nbudget_s = 0.1\nkeep = 0.2\n'


def test_of_six_candidates_those_that_are_behind_are_never_run_in_full(
    make_study: MakeStudy,
) -> None:
    study = make_study({"bench.sh": SCRIPT}, config=BY_HAND + ONE_SLOT + RUNG)
    study.incumbent("submit", "--grid", "X=1,3,4,5,8,9")

    done = study.incumbent("run", "-n", "6")

    assert "scored e0.1: loss 2; the script obeys INCUMBENT_BUDGET_S" in done.stdout
    assert "short e1.1: loss 1 on the rung of 0.1 s\n" in done.stdout
    state = study.state()
    on_rungs = {e.id: [t.rung_s for t in e.trials] for e in state.experiments.values()}
    assert on_rungs["e0"] == [None]
    assert on_rungs["e1"] == [0.1, None]
    assert state.experiments["e1"].status == "kept"
    assert on_rungs["e6"] == [0.1]
    assert state.experiments["e6"].status == "pruned"
    assert state.experiments["e6"].reason.startswith("rung of 0.1 s: place ")
    rows = study.home.results.read_text().splitlines()
    assert len(rows) == 1 + 1 + sum(len(found) > 1 for found in on_rungs.values())
    (rung,) = study.json("status")["rungs"]["steps"]
    assert (rung["completed"], rung["stopped"]) == (6, state.counts["pruned"])
