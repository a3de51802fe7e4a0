"""The runs that a trial consists of, and what their endings make of it. Pure.

A trial is one run, or two: a smoke run, which is told to aim at a few seconds and goes through all
of the script, then the full run, which is shorter for a trial on a rung of the budget ladder. Does
not know who runs them; a smoke run is to its worker a trial like any other, with a smaller budget.
"""

from dataclasses import replace

from eval.suspicion import Conduct
from trainer.telemetry import Telemetry
from trainer.trial import Ending, Probe, Rung, TrialOutcome, TrialSpec

SAVED_SHARE = 0.5
"""A script obeys its budget if a run told to be shorter is so by this share of the difference."""
_NOT_ITS_OWN = frozenset({Ending.PRUNED, Ending.CANCELLED, Ending.LOST})
"""Endings that say nothing of what was run."""
_BEFORE_FULL = ("materialise", "smoke")


def runs(spec: TrialSpec) -> tuple[TrialSpec, ...]:
    """Return the runs of a trial in their order, each as a trial that consists of one run.

    A smoke run may exceed its budget by as many seconds as the full run may exceed its own:
    imports, compilation and evaluation take it no less time.
    """
    full = replace(spec, smoke=None)
    if spec.smoke is None:
        return (full,)
    budget_s = spec.smoke.budget_s
    timeout_s = budget_s + spec.timeout_s - spec.budget_s
    return replace(full, rung=Rung.SMOKE, budget_s=budget_s, timeout_s=timeout_s), full


def goes_on(spec: TrialSpec, smoke: TrialOutcome) -> bool:
    """Say whether a smoke run that ended like this leaves the full run of its trial to be done."""
    if smoke.ending is Ending.SCORED:
        return True
    is_probe = spec.smoke is not None and spec.smoke.is_probe
    return is_probe and smoke.ending not in _NOT_ITS_OWN


def ended_with_smoke(smoke: TrialOutcome) -> TrialOutcome:
    """Return the outcome of a trial that a failed smoke run was the end of.

    What was measured of so short a run compares with nothing, and is left out.
    """
    is_its_own = smoke.ending not in _NOT_ITS_OWN
    return replace(
        smoke,
        rung=Rung.SMOKE,
        reason=f"smoke run: {smoke.reason}" if is_its_own else smoke.reason,
        stages_s={stage: smoke.stages_s[stage] for stage in _BEFORE_FULL},
        telemetry=Telemetry(),
        conduct=Conduct(),
    )


def after_smoke(spec: TrialSpec, smoke: TrialOutcome | None, full: TrialOutcome) -> TrialOutcome:
    """Return the outcome of a trial: its full run's, and what a smoke run before it adds."""
    if smoke is None:
        return full
    stages_s = dict(full.stages_s)
    for stage in _BEFORE_FULL:
        stages_s[stage] = stages_s.get(stage, 0.0) + smoke.stages_s.get(stage, 0.0)
    return replace(full, stages_s=stages_s, probe=_probe(spec, smoke, full))


def _probe(spec: TrialSpec, smoke: TrialOutcome, full: TrialOutcome) -> Probe | None:
    """Return what a probe told; None if it was none, or if there is nothing to hold it against."""
    if spec.smoke is None or not spec.smoke.is_probe or full.ending is not Ending.SCORED:
        return None
    saved_s = full.conduct.wall_s - smoke.conduct.wall_s
    to_be_saved_s = spec.budget_s - spec.smoke.budget_s
    has_saved = saved_s >= SAVED_SHARE * to_be_saved_s
    return Probe(
        budget_s=spec.smoke.budget_s,
        ending=smoke.ending,
        wall_s=smoke.conduct.wall_s,
        obeys=smoke.ending is Ending.SCORED and has_saved,
        reason=smoke.reason,
    )


def reported(spec: TrialSpec, outcome: TrialOutcome) -> TrialOutcome:
    """Return a trial's outcome as it is reported: what was measured on a rung is no score."""
    if not spec.is_short or outcome.ending is not Ending.SCORED:
        return outcome
    return replace(outcome, ending=Ending.SHORT, value=None, short_value=outcome.value)
