"""What runs on rungs of the budget ladder change in the state. Pure.

See cluster.state.transitions, of which this is a part.
"""

from cluster.state import events as ev
from cluster.state.experiment import Status, Trial
from cluster.state.replacing import replace
from cluster.state.state import ShortRun, StudyState
from cluster.state.steps import step
from eval.ladder import MOST_COMPARED
from trainer.trial import ExperimentId

S = Status


def completed(state: StudyState, experiment: ExperimentId, trial: Trial) -> StudyState:
    """Note what a candidate reached on a rung, if the trial was that; others are held against it.

    Of those that are comparable with each other the latest few are kept.
    """
    outcome = trial.outcome
    if trial.rung_s is None or outcome is None or outcome.short_value is None:
        return state
    run = ShortRun(
        experiment=experiment,
        budget_s=trial.rung_s,
        device_class=outcome.device_class,
        value=outcome.short_value,
    )
    alike = [other for other in state.short_runs if other.is_comparable(run)]
    known = state.short_runs
    if len(alike) >= MOST_COMPARED:
        known = tuple(other for other in known if other != alike[0])
    return replace(state, short_runs=(*known, run))


def judged(state: StudyState, event: ev.RungJudged, rec: ev.Recorded) -> StudyState:
    """Send a candidate on, or stop it; nothing where somebody wanted something else meanwhile."""
    experiment = state.experiments[event.experiment]
    if experiment.skips_rungs or experiment.status not in {S.PROPOSED, S.PRUNED}:
        return state
    if event.goes_on:
        passed = {"passed_s": event.rung_s, "reason": ""}
        return step(state, rec, experiment.id, S.PROPOSED, **passed)
    if experiment.status is S.PRUNED:
        return state
    return step(state, rec, experiment.id, S.PRUNED, reason=event.reason)
