"""Which proposals are run on rungs of the budget ladder, and which of them go on. Pure.

A proposal's first runs are on the rungs, the lowest budget first, if the script was seen to obey
its budget. What decides something else than whether a candidate is worth a full run has none: the
baseline, merges, replicates, controls, and what somebody had run again. How many go on is
eval.ladder's to say.
"""

from collections.abc import Iterator

from cluster.policy.commands import RecordRung
from cluster.policy.study_plan import StudyPlan
from cluster.state.events import RungJudged
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import ShortRun, StudyState
from eval.ladder import Standing
from trainer.trial import Ending


def obeys_budget(state: StudyState) -> bool:
    """Say whether the script, when it was last asked, ran as long as it was told to."""
    probe = state.baseline.probe if state.baseline else None
    return probe is not None and probe.obeys


def next_rung(state: StudyState, plan: StudyPlan, experiment: Experiment) -> float | None:
    """Return the budget of the rung that an experiment's next trial is on; None for a full run."""
    is_beyond = experiment.skips_rungs or experiment.has_ended_in_full
    if experiment.kind is not Kind.PROPOSAL or is_beyond or not obeys_budget(state):
        return None
    above = (step.budget_s for step in plan.rungs if step.budget_s > experiment.passed_s)
    return next(above, None)


def waits(experiment: Experiment) -> bool:
    """Say whether it has completed a rung, and is not yet said to go on or to stop there."""
    run = _last_run(experiment)
    is_new = run is not None and run.budget_s > experiment.passed_s
    return experiment.status is Status.PROPOSED and is_new and not experiment.skips_rungs


def due(state: StudyState, plan: StudyPlan) -> Iterator[RecordRung]:
    """Say of each candidate that has completed a rung whether it goes on."""
    for experiment in state.opened(Status.PROPOSED):
        run = _last_run(experiment)
        if run is not None and waits(experiment):
            yield _command(run, _standing(state, plan, run))


def risers(state: StudyState, plan: StudyPlan) -> list[RecordRung]:
    """Return stopped candidates that are among the best of their rung by now, the best first.

    Only those that others are still held against: what was stopped long ago stays stopped.
    """
    budgets = {step.budget_s for step in plan.rungs}
    found: list[tuple[float, int, RecordRung]] = []
    for run in state.short_runs:
        experiment = state.experiments[run.experiment]
        if experiment.status is not Status.PRUNED or _last_run(experiment) != run:
            continue
        if run.budget_s in budgets and (standing := _standing(state, plan, run)).goes_on:
            found.append((-run.budget_s, standing.rank, _command(run, standing)))
    return [command for _, _, command in sorted(found, key=lambda each: each[:2])]


def _last_run(experiment: Experiment) -> ShortRun | None:
    """Return the run on a rung that an experiment's latest trial was; None if it was another."""
    trial = experiment.trials[-1] if experiment.trials else None
    outcome = trial.outcome if trial else None
    if trial is None or outcome is None or outcome.ending is not Ending.SHORT:
        return None
    if trial.rung_s is None or outcome.short_value is None:
        return None
    return ShortRun(
        experiment=experiment.id,
        budget_s=trial.rung_s,
        device_class=outcome.device_class,
        value=outcome.short_value,
    )


def _standing(state: StudyState, plan: StudyPlan, run: ShortRun) -> Standing:
    others = [
        other.value
        for other in state.short_runs
        if other.is_comparable(run) and other.experiment != run.experiment
    ]
    step = next((step for step in plan.rungs if step.budget_s == run.budget_s), None)
    if step is None:
        reason = f"[[rung]] has none of {run.budget_s:g} s any more"
        return Standing(rank=1, of=1 + len(others), goes_on=True, reason=reason)
    return step.standing(run.value, others, plan.metric.goal)


def _command(run: ShortRun, standing: Standing) -> RecordRung:
    return RecordRung(
        judged=RungJudged(
            experiment=run.experiment,
            rung_s=run.budget_s,
            rank=standing.rank,
            of=standing.of,
            goes_on=standing.goes_on,
            reason=standing.reason,
        )
    )
