"""Which runs a trial consists of, and what they make of its outcome."""

from dataclasses import replace
from typing import Any

import pytest

from eval.suspicion import Conduct
from trainer.rungs import after_smoke, ended_with_smoke, goes_on, reported, runs
from trainer.telemetry import Telemetry
from trainer.trial import (
    CommitId,
    CrashKind,
    Ending,
    ExperimentId,
    Probe,
    Rung,
    Smoke,
    TrialId,
    TrialOutcome,
    TrialSpec,
)

PLAIN = TrialSpec(
    trial=TrialId("e1.1"),
    experiment=ExperimentId("e1"),
    attempt=1,
    commit=CommitId("a" * 40),
    seed=1,
    budget_s=300.0,
    timeout_s=600.0,
)
RUN_ENDINGS = set(Ending) - {Ending.SHORT}
"""How runs end, before it is said what that is for their trial."""
SMOKED = replace(PLAIN, smoke=Smoke(budget_s=10.0))
PROBED = replace(PLAIN, smoke=Smoke(budget_s=10.0, is_probe=True))


def outcome(ending: Ending, wall_s: float = 1.0, **changes: Any) -> TrialOutcome:
    made = TrialOutcome(
        ending=ending,
        value=0.5 if ending is Ending.SCORED else None,
        crash=CrashKind.EXCEPTION if ending is Ending.CRASHED else None,
        reason="" if ending is Ending.SCORED else f"it was {ending}",
        telemetry=Telemetry(wall_s=wall_s),
        conduct=Conduct(wall_s=wall_s),
    )
    return replace(made, **changes)


def test_a_trial_without_a_smoke_run_is_one_run() -> None:
    assert runs(PLAIN) == (PLAIN,)


@pytest.mark.parametrize("spec", [SMOKED, PROBED])
def test_a_smoke_run_goes_first_and_may_exceed_its_budget_as_far(spec: TrialSpec) -> None:
    smoke, full = runs(spec)
    assert full == PLAIN
    assert smoke == replace(PLAIN, rung=Rung.SMOKE, budget_s=10.0, timeout_s=310.0)


@pytest.mark.parametrize(
    ("spec", "endings"),
    [
        (SMOKED, {Ending.SCORED}),
        (PROBED, {Ending.SCORED, Ending.CRASHED, Ending.TIMED_OUT}),
    ],
)
def test_the_full_run_follows_what_passed_and_any_probe_that_ran(
    spec: TrialSpec, endings: set[Ending]
) -> None:
    assert {ending for ending in RUN_ENDINGS if goes_on(spec, outcome(ending))} == endings


@pytest.mark.parametrize("ending", sorted(RUN_ENDINGS - {Ending.SCORED}))
def test_an_outcome_says_that_the_smoke_run_was_the_end(ending: Ending) -> None:
    smoke = outcome(ending, stages_s={"materialise": 0.1, "smoke": 2.0, "start": 1.5})
    ended = ended_with_smoke(smoke)
    is_the_candidates = ending in {Ending.CRASHED, Ending.TIMED_OUT}
    assert ended.reason == ("smoke run: " if is_the_candidates else "") + f"it was {ending}"
    assert (ended.rung, ended.ending, ended.crash) == (Rung.SMOKE, ending, smoke.crash)
    assert ended.stages_s == {"materialise": 0.1, "smoke": 2.0}
    assert (ended.telemetry, ended.conduct) == (Telemetry(), Conduct())


def test_a_smoke_run_scores_nothing() -> None:
    with pytest.raises(ValueError, match="a smoke run scores nothing"):
        ended_with_smoke(outcome(Ending.SCORED, stages_s={"materialise": 0.1, "smoke": 2.0}))


def test_the_full_runs_outcome_tells_of_the_smoke_runs_time() -> None:
    smoke = outcome(Ending.SCORED, stages_s={"materialise": 0.25, "smoke": 2.0, "start": 1.5})
    full = outcome(Ending.SCORED, 300.0, stages_s={"materialise": 0.5, "train": 300.0})
    stages_s = {"materialise": 0.75, "smoke": 2.0, "train": 300.0}
    assert after_smoke(SMOKED, smoke, full) == replace(full, stages_s=stages_s)


@pytest.mark.parametrize(
    ("smoke", "full", "obeys"),
    [
        (outcome(Ending.SCORED, 15.0), outcome(Ending.SCORED, 305.0), True),
        (outcome(Ending.SCORED, 155.0), outcome(Ending.SCORED, 300.0), True),  # half of 290
        (outcome(Ending.SCORED, 155.1), outcome(Ending.SCORED, 300.0), False),
        (outcome(Ending.SCORED, 300.0), outcome(Ending.SCORED, 300.0), False),
        (outcome(Ending.SCORED, 310.0), outcome(Ending.SCORED, 290.0), False),
        (outcome(Ending.CRASHED, 15.0), outcome(Ending.SCORED, 300.0), False),
        (outcome(Ending.TIMED_OUT, 10.0), outcome(Ending.SCORED, 300.0), False),
    ],
)
def test_a_script_obeys_if_it_saved_half_of_what_could_be_saved(
    smoke: TrialOutcome, full: TrialOutcome, obeys: bool
) -> None:
    assert after_smoke(PROBED, smoke, full).probe == Probe(
        budget_s=10.0,
        ending=smoke.ending,
        wall_s=smoke.conduct.wall_s,
        obeys=obeys,
        reason=smoke.reason,
    )


def test_without_a_score_to_hold_it_against_a_probe_tells_nothing() -> None:
    quick, failed = outcome(Ending.SCORED), outcome(Ending.TIMED_OUT, 600.0)
    assert after_smoke(PROBED, quick, failed).probe is None
    assert after_smoke(SMOKED, quick, outcome(Ending.SCORED, 300.0)).probe is None


def test_what_a_trial_on_a_rung_measured_is_reported_as_no_score() -> None:
    scored = outcome(Ending.SCORED)
    found = reported(replace(PLAIN, is_short=True), scored)
    assert (found.ending, found.value, found.short_value) == (Ending.SHORT, None, 0.5)
    assert reported(PLAIN, scored) == scored


FAILURES = [Ending.CRASHED, Ending.TIMED_OUT, Ending.CANCELLED, Ending.LOST]


@pytest.mark.parametrize("ending", FAILURES)
def test_how_a_trial_on_a_rung_fails_is_reported_as_it_is(ending: Ending) -> None:
    failed = outcome(ending)
    assert reported(replace(PLAIN, is_short=True), failed) == failed
