"""Which trials go into the queue, with what seed, priority and smoke run. Pure."""

from collections.abc import Iterator

from cluster.commands import Command, QueueTrial
from cluster.experiment import Experiment, Kind, Status, TrialPhase
from cluster.state import StudyState
from cluster.study_plan import StudyPlan
from trainer.trial import Smoke, TrialId

_PRIORITY = {Kind.BASELINE: 2_000_000, Kind.MERGE: 1_000_000, Kind.PROPOSAL: 0}
MOST_PRIORITY = 900_000
"""Priorities of submissions stay within plus and minus this."""


def due(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Queue a trial of every experiment that waits for one and may have it."""
    for experiment in state.opened(Status.PROPOSED):
        if experiment.kind is Kind.BASELINE or _is_under_way(state):
            yield _queue_trial(state, experiment, plan)


def _is_under_way(state: StudyState) -> bool:
    """Say whether the baseline has a score: while it is measured again, others may run beside."""
    baseline = state.baseline
    is_measured = baseline is not None and baseline.id in state.open and bool(baseline.values)
    return bool(state.lineage) or is_measured


def _queue_trial(state: StudyState, experiment: Experiment, plan: StudyPlan) -> QueueTrial:
    """Return the next attempt of a lost trial, or the next trial of a measured experiment."""
    last = experiment.trials[-1] if experiment.trials else None
    if last is not None and last.phase is TrialPhase.LOST:
        number, attempt = int(last.id.rpartition(".")[2]), last.attempt + 1
    else:
        number, attempt = (int(last.id.rpartition(".")[2]) + 1 if last else 1), 1
    bounded = max(-MOST_PRIORITY, min(MOST_PRIORITY, experiment.priority))
    return QueueTrial(
        experiment=experiment,
        trial=TrialId(f"{experiment.id}.{number}"),
        attempt=attempt,
        seed=plan.seed + number,
        priority=_PRIORITY[experiment.kind] + bounded,
        smoke=_smoke(state, experiment, plan),
    )


def _smoke(state: StudyState, experiment: Experiment, plan: StudyPlan) -> Smoke | None:
    """Return the smoke run of an experiment's next trial: the first one's, if it can be of use.

    A candidate of which a trial has finished has passed it, or somebody insists on the full run.
    """
    if plan.smoke_s is None:
        return None
    if experiment.kind is Kind.BASELINE:
        is_known = any(trial.outcome and trial.outcome.probe for trial in experiment.trials)
        return None if is_known else Smoke(budget_s=plan.smoke_s, is_probe=True)
    if experiment.finished or not _obeys_budget(state.baseline):
        return None
    return Smoke(budget_s=plan.smoke_s)


def _obeys_budget(baseline: Experiment | None) -> bool:
    """Say whether the script, when it was last asked, ran as long as it was told to."""
    trials = baseline.trials if baseline else ()
    probes = [trial.outcome.probe for trial in trials if trial.outcome and trial.outcome.probe]
    return bool(probes) and probes[-1].obeys
