"""Which trials go into the queue, with what seed, priority, budget and smoke run. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from cluster.policy import device_classes, ladder, staleness
from cluster.policy.commands import Command, QueueTrial
from cluster.policy.study_plan import StudyPlan
from cluster.state.experiment import Experiment, Kind, Status, TrialPhase
from cluster.state.state import StudyState
from trainer.trial import ExperimentId, Place, Smoke, TrialId, trial_number

_PRIORITY = {Kind.BASELINE: 2_000_000, Kind.MERGE: 1_000_000, Kind.PROPOSAL: 0}
MOST_PRIORITY = 900_000
"""Priorities of submissions stay within plus and minus this."""
OTHER_SEEDS = 1_000_000
"""Added to the seeds of a candidate that changes the seed: nobody else is run with those."""


def due(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Queue a trial of every experiment that waits for one and may have it."""
    due_now, _ = _divided(state, plan)
    for experiment in due_now:
        yield _queue_trial(state, experiment, plan)


def held_back(state: StudyState, plan: StudyPlan) -> frozenset[ExperimentId]:
    """Return what waits for proof to have a smaller share: no slot can count on it."""
    return frozenset(experiment.id for experiment in _divided(state, plan)[1])


def _divided(state: StudyState, plan: StudyPlan) -> tuple[list[Experiment], list[Experiment]]:
    """Return the experiments of which a trial is queued now, and those that are held back."""
    has_begun = is_under_way(state)
    waiting = [
        experiment
        for experiment in state.opened(Status.PROPOSED)
        if (has_begun or experiment.kind is Kind.BASELINE)
        and not ladder.waits(experiment)
        and not staleness.is_stale(state, plan, experiment)
    ]
    proofs = [experiment for experiment in waiting if experiment.is_replicated]
    first = [experiment for experiment in waiting if not experiment.is_replicated]
    is_idle = not first and not state.count(Status.QUEUED)
    affordable = _affordable(state, plan, proofs, is_idle=is_idle)
    known = {proof.id for proof in affordable}  # to compare experiments as a whole takes long
    return [*first, *affordable], [proof for proof in proofs if proof.id not in known]


def _affordable(
    state: StudyState, plan: StudyPlan, proofs: list[Experiment], *, is_idle: bool
) -> list[Experiment]:
    """Return those whose replicate keeps proof within its share; one if a slot is idle else."""
    if not proofs:
        return []
    queued, running = state.opened(Status.QUEUED), state.opened(Status.RUNNING)
    proving = sum(experiment.is_replicated for experiment in (*queued, *running))
    others = sum(not experiment.is_replicated for experiment in running)
    found: list[Experiment] = []
    for experiment in proofs:
        is_within = state.spent.leaves_for_proof(
            plan.replicate_share,
            proving=proving + len(found),
            others=others,
            run_s=experiment.trials[-1].seconds,
        )
        if is_within or (is_idle and not found):
            found.append(experiment)
    return found


def is_under_way(state: StudyState) -> bool:
    """Say whether the baseline has a score: while it is measured again, others may run beside."""
    baseline = state.baseline
    is_measured = baseline is not None and baseline.id in state.open and bool(baseline.values)
    return bool(state.lineage) or is_measured


def _queue_trial(state: StudyState, experiment: Experiment, plan: StudyPlan) -> QueueTrial:
    """Return the next attempt of a trial that never reported, or an experiment's next trial."""
    last = experiment.trials[-1] if experiment.trials else None
    place = device_classes.place(state, plan, experiment)
    if last is not None and last.phase in {TrialPhase.LOST, TrialPhase.WITHDRAWN}:
        number, attempt = trial_number(last.id), last.attempt + 1
        place = _elsewhere(state, place, last.node)
    else:
        number, attempt = experiment.next_trial, 1
    trial = TrialId(f"{experiment.id}.{number}")
    is_repeat = bool(experiment.values)
    bounded = max(-MOST_PRIORITY, min(MOST_PRIORITY, experiment.priority))
    return QueueTrial(
        experiment=experiment,
        trial=trial,
        attempt=attempt,
        seed=_seed(experiment, trial, is_repeat=is_repeat),
        priority=_urgency(experiment, is_repeat=is_repeat) + bounded,
        place=place,
        rung_s=ladder.next_rung(state, plan, experiment),
        smoke=_smoke(state, experiment, plan),
        is_repeat=is_repeat,
    )


def _urgency(experiment: Experiment, *, is_repeat: bool) -> int:
    """Return how early a trial comes: a verdict that waits for it holds up all that follows."""
    if is_repeat and experiment.kind is Kind.PROPOSAL:
        return _PRIORITY[Kind.MERGE]
    return _PRIORITY[experiment.kind]


def _elsewhere(state: StudyState, place: Place, node: str) -> Place:
    """Return a place that avoids the node where an attempt was lost, if another one may run it."""
    others = (
        slot
        for slot in state.slots.values()
        if slot.node != node
        and state.takes_work(slot)
        and place.admits(slot.slot, slot.device_class)
    )
    return replace(place, avoid=node) if node and any(others) else place


def _seed(experiment: Experiment, trial: TrialId, *, is_repeat: bool) -> int:
    """Return a trial's seed, by its number; the first run in full has that of those on rungs."""
    rung_runs = {t.id for t in experiment.trials if t.rung_s is not None and t.id != trial}
    others = OTHER_SEEDS if experiment.seeds and is_repeat else 0
    return trial_number(trial) - len(rung_runs) + others


def _smoke(state: StudyState, experiment: Experiment, plan: StudyPlan) -> Smoke | None:
    """Return the smoke run of an experiment's next trial: the first one's, if it can be of use.

    A candidate of which a trial has finished has passed it, or somebody insists on the full run.
    """
    if experiment.kind is Kind.BASELINE:
        asked = plan.smoke_s or next((step.budget_s for step in plan.rungs), None)
        return None if asked is None or experiment.probe else Smoke(budget_s=asked, is_probe=True)
    if plan.smoke_s is None or experiment.finished or not ladder.obeys_budget(state):
        return None
    return Smoke(budget_s=plan.smoke_s)
