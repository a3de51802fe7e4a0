"""`decide(state, plan, circumstances) -> commands`: what is to be done now. Pure.

Level-triggered: it looks at the state, not at what changed, so it may be called at any time and
after any crash. Its cost grows with what is open, not with what was ever tried.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from cluster import reducer
from cluster.commands import (
    CancelTrial,
    Command,
    CreateBaseline,
    FinishStudy,
    GiveBackTrials,
    Materialise,
    Promote,
    Propose,
    QueueTrial,
    RecordJudgement,
    RecordSuspicion,
)
from cluster.experiment import Experiment, Kind, Status, TrialPhase
from cluster.state import StudyState
from eval.guard import Guard
from eval.judge import Circumstance, Judge, Judgement, Verdict
from eval.metric import Metric
from eval.noise import Noise, pooled_noise
from eval.suspicion import implausible, suspicions
from trainer.trial import ExperimentId, Smoke, TrialId

MOST_SUBMISSIONS = 8
"""Submissions that are turned into candidates in one go."""
MOST_REJECTIONS = 200
"""Rejected proposals in a row after which the proposers are taken to have run dry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What of the configuration decisions depend on."""

    metric: Metric
    judge: Judge
    guards: tuple[Guard, ...] = ()
    """Bounds on other numbers, which a candidate must keep whatever the judge says."""
    proposers: tuple[str, ...]
    """Names of the proposers; empty for a study fed by submissions alone."""
    budget_s: float = 300.0
    """What scripts are told to aim at."""
    smoke_s: float | None = None
    """The same for smoke runs; None is none of these."""
    slots: int
    """Slots to expect before workers have presented themselves."""
    most_experiments: int = 0
    most_hours: float = 0.0
    most_slot_hours: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decisions depend on that no event says."""

    now: datetime
    asking: int = 0
    """Proposals that proposers are working on."""
    proposal_latency_s: float = 0.0
    """How long a need may wait for its answer: a proposer takes one question at a time."""


def decide(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> tuple[Command, ...]:
    """Return the commands that are due, in the order in which to perform them."""
    if state.finished:
        return ()
    if state.stopping:
        return tuple(_stopping(state, plan))
    if state.baseline is None:
        return (CreateBaseline(),)
    commands: list[Command] = [*_cancellations(state), *_judgements(state, plan)]
    if not commands:
        commands = reducer.plan(state, plan.judge, plan.metric)
    commands.extend(_submissions(state))
    if not state.is_paused:
        commands.extend(_trials(state, plan))
        commands.extend(_proposals(state, plan, circumstances))
    if not commands:
        commands.extend(_ending(state, plan, circumstances))
    return tuple(commands)


def _stopping(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Finish what runs, its verdicts and promotions included; begin nothing."""
    yield from _cancellations(state)
    if judgements := list(_judgements(state, plan)):
        yield from judgements
    else:
        winners = reducer.plan(state, plan.judge, plan.metric)
        yield from (command for command in winners if isinstance(command, Promote))
    if state.stopping == "now" and _count(state, Status.RUNNING):
        yield GiveBackTrials()


def _count(state: StudyState, *statuses: Status) -> int:
    return sum(state.counts.get(status, 0) for status in statuses)


def _open(state: StudyState, status: Status) -> list[Experiment]:
    """Return the open experiments of a status, the oldest first."""
    if not _count(state, status):
        return []  # mostly so, and it spares a walk over all that is open
    found = (state.experiments[e] for e, s in state.open.items() if s is status)
    return sorted(found, key=lambda experiment: int(experiment.id[1:]))


_ON_THE_WAY = frozenset({Status.QUEUED, Status.RUNNING})


def _cancellations(state: StudyState) -> Iterator[Command]:
    for name, status in state.open.items():
        if status in _ON_THE_WAY and state.experiments[name].is_cancelled:
            yield CancelTrial(trial=state.experiments[name].trials[-1].id)


# --- judging -------------------------------------------------------------------------------------


def _judgements(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Judge one experiment: the next is judged with what this verdict teaches."""
    for experiment in _open(state, Status.MEASURED)[:1]:
        if experiment.kind is not Kind.BASELINE and not state.lineage:
            return  # the baseline is measured several times, and comes first
        judgement, reference = _judgement(state, experiment, plan)
        reasons = () if experiment.is_accepted else _suspicions(state, experiment, plan)
        if reasons and judgement.verdict is not Verdict.DISCARD:
            yield RecordSuspicion(
                experiment=experiment.id,
                delta=judgement.delta,
                reasons=reasons,
                reference=reference.id,
            )
            continue
        if reasons:  # it harms nobody; who reads its story should know
            words = f"{judgement.reason}; suspect besides: {'; '.join(reasons)}"
            judgement = replace(judgement, reason=words)
        yield RecordJudgement(experiment=experiment.id, judgement=judgement, reference=reference.id)


def _judgement(
    state: StudyState, experiment: Experiment, plan: StudyPlan
) -> tuple[Judgement, Experiment]:
    """Return what the judge says, and what of."""
    around = Circumstance(
        noise=noise(state, experiment.last_outcome.device_class),
        memory=state.memory,
        slots=open_slots(state) or plan.slots,
    )
    if experiment.kind is Kind.BASELINE:
        return plan.judge.begin(experiment.evidence, around), experiment
    reference = _reference(state, experiment, plan)
    carried = state.experiments.get(experiment.merge_of)
    evidence = replace(experiment.evidence, expected=carried.effect if carried else None)
    judgement = plan.judge.judge(evidence, reference.evidence, around)
    breaches = _breaches(experiment, plan)
    if breaches and judgement.verdict is not Verdict.DISCARD:
        judgement = replace(judgement, verdict=Verdict.DISCARD, reason="; ".join(breaches))
    return judgement, reference


def _breaches(experiment: Experiment, plan: StudyPlan) -> tuple[str, ...]:
    """Return in words which guards any of the scored trials breached."""
    found = [
        guard.breach(outcome.metrics)
        for _, outcome, _ in experiment.scored
        for guard in plan.guards
    ]
    return tuple(dict.fromkeys(words for words in found if words))


def noise(state: StudyState, device_class: str) -> Noise:
    """Return by how much runs of the same code differ on slots of one class."""
    found = (state.experiments[experiment] for experiment in state.replicated)
    return pooled_noise(e.values for e in found if e.last_outcome.device_class == device_class)


def _suspicions(state: StudyState, experiment: Experiment, plan: StudyPlan) -> tuple[str, ...]:
    """Return why the latest score may not have been earned; the earlier ones were looked at."""
    run = experiment.last_run
    if experiment.kind is Kind.BASELINE:  # whatever it does is the repository's habit
        return (*implausible(run.value, plan.metric), *_breaches(experiment, plan))
    made_of = {ExperimentId("e0"), experiment.base, experiment.merge_of} - {ExperimentId("")}
    precedents = [state.experiments[name].last_run for name in sorted(made_of)]
    return suspicions(run, precedents, metric=plan.metric, budget_s=plan.budget_s)


def _reference(state: StudyState, experiment: Experiment, plan: StudyPlan) -> Experiment:
    """Return what an experiment has to beat: the incumbent, or its base where that is worse.

    A patch made on an older incumbent may be worth merging though its tree alone is behind by now.
    A judge that learns of patches is asked what the patch did to its own base.
    """
    base = state.experiments[experiment.base]
    incumbent = state.incumbent
    if incumbent is None or incumbent.id == base.id or base.belief is not None:
        return base
    ahead = plan.metric.is_better(base.evidence.score.mean, incumbent.evidence.score.mean)
    return incumbent if ahead else base


# --- trials --------------------------------------------------------------------------------------

_PRIORITY = {Kind.BASELINE: 2_000_000, Kind.MERGE: 1_000_000, Kind.PROPOSAL: 0}
MOST_PRIORITY = 900_000
"""Priorities of submissions stay within plus and minus this."""


def _trials(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    for experiment in _open(state, Status.PROPOSED):
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


# --- proposals -----------------------------------------------------------------------------------


def _submissions(state: StudyState) -> Iterator[Command]:
    if state.lineage:  # a submission without a base of its own is a patch on the incumbent
        # A few at a time: between them the state is looked at again, and trials are queued.
        waiting = sorted(state.submissions, key=lambda submission: -submission.priority)
        for submission in waiting[:MOST_SUBMISSIONS]:
            yield Materialise(submission=submission)


def _proposals(
    state: StudyState, plan: StudyPlan, circumstances: Circumstances
) -> Iterator[Command]:
    if limit_reached(state, plan, circumstances.now) or not _can_propose(state, plan):
        return
    ready = _ready(state)
    missing = _ready_wanted(state, plan, circumstances) - ready - circumstances.asking
    if plan.most_experiments:
        begun = state.judged + _undecided(state) + circumstances.asking
        missing = min(missing, plan.most_experiments - begun)
    if missing > 0:
        yield Propose(count=missing)


def _can_propose(state: StudyState, plan: StudyPlan) -> bool:
    fresh = [name for name in plan.proposers if name not in state.exhausted]
    return (
        bool(fresh)
        and not _has_failed(state.baseline)
        and state.rejections_in_a_row < MOST_REJECTIONS
    )


def _has_failed(baseline: Experiment | None) -> bool:
    """Say whether the start has ended without a score to compare with."""
    if baseline is None:
        return False
    return baseline.status.is_failure or baseline.status is Status.SUSPECT


def _ready(state: StudyState) -> int:
    """Proposals that wait for a slot."""
    return sum(
        state.experiments[e].kind is Kind.PROPOSAL
        for e, status in state.open.items()
        if status in {Status.PROPOSED, Status.QUEUED}
    )


def _undecided(state: StudyState) -> int:
    """Proposals that no verdict has been given on."""
    before = {Status.PROPOSED, Status.QUEUED, Status.RUNNING, Status.MEASURED}
    return sum(
        state.experiments[e].kind is Kind.PROPOSAL
        for e, status in state.open.items()
        if status in before
    )


def open_slots(state: StudyState) -> int:
    """Slots that take work."""
    return sum(slot.is_open and not slot.note for slot in state.slots.values())


def _ready_wanted(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> int:
    """One candidate per slot, and what the slots use up while an answer is on its way.

    More would go stale, fewer would let slots starve (Little's law: the number on the way is the
    rate times the latency).
    """
    slots = open_slots(state) or plan.slots
    rate = verdicts_per_s(state, circumstances.now)
    return slots + math.ceil(rate * circumstances.proposal_latency_s)


def verdicts_per_s(state: StudyState, now: datetime) -> float:
    """Rate of verdicts on proposals over the last few, per second; 0 before there are two."""
    if len(state.recent) < 2:
        return 0.0
    span = (now - state.recent[0]).total_seconds()
    return (len(state.recent) - 1) / span if span > 0 else 0.0


# --- endings -------------------------------------------------------------------------------------


def limit_reached(state: StudyState, plan: StudyPlan, now: datetime) -> str:
    """Return which limit of the study was reached, in words; empty if none."""
    if plan.most_experiments and state.judged >= plan.most_experiments:
        return f"{state.judged} experiments were judged"
    if plan.most_hours and state.running_s(now) / 3600 >= plan.most_hours:
        return f"it has run for {plan.most_hours:g} hours"
    if plan.most_slot_hours and state.slot_seconds / 3600 >= plan.most_slot_hours:
        return f"{plan.most_slot_hours:g} GPU-hours were used"
    return ""


def _ending(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> Iterator[Command]:
    baseline = state.baseline
    if baseline is not None and baseline.status is Status.SUSPECT:
        cure = "correct that and `incumbent retry e0`, or `incumbent accept e0`; then run again"
        yield FinishStudy(reason=f"the baseline is suspect: {baseline.reason}: {cure}", failed=True)
    elif baseline is not None and baseline.status.is_failure:
        words = baseline.status.value.replace("_", " ")
        reason = f"the baseline {'was ' if words in ('lost', 'cancelled') else ''}{words}"
        yield FinishStudy(reason=f"{reason}: {baseline.reason}", failed=True)
    elif state.open or circumstances.asking or state.is_paused:
        return
    elif reached := limit_reached(state, plan, circumstances.now):
        yield FinishStudy(reason=reached)
    elif plan.proposers and not _can_propose(state, plan):
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(state.exhausted.items()))
        repeats = f"{state.rejections_in_a_row} proposals in a row were rejected"
        yield FinishStudy(reason=f"nothing more to try ({why or repeats})")


def stop_is_complete(state: StudyState) -> bool:
    """Say whether a stop that was asked for has nothing left to wait for."""
    return bool(state.stopping) and not _count(state, Status.RUNNING)
