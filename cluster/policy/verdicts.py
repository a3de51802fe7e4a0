"""Which measured experiment is judged next, against what, and what is recorded of it. Pure.

Knows what a judge is shown and when a score is looked at twice. What is better is eval's to say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from cluster.policy import device_classes, seed_verdicts
from cluster.policy.commands import Command, RecordJudgement, RecordSuspicion
from cluster.policy.study_plan import StudyPlan
from cluster.state.events import ExperimentSuspected
from cluster.state.experiment import FROM_GIT, Experiment, Kind, Status
from cluster.state.state import StudyState
from cluster.state.winners import below, root
from eval.judge import Circumstance, Judgement, Verdict
from eval.noise import Noise, pooled_noise
from eval.suspicion import implausible, suspicions
from trainer.trial import ExperimentId

KNOWN_THERE = 4
"""Degrees of freedom from which on a class tells its own noise; below, the reference's stands."""


def due(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Judge one experiment: the next is judged with what this verdict teaches."""
    if device_classes.is_from_git(state):
        return  # there is nothing yet to compare with
    measured = state.opened(Status.MEASURED)
    for experiment in measured:
        if experiment.id in state.chain:  # all links are judged at once, by the reducer
            yield from _objections(state, experiment, plan)
    for experiment in measured:
        if experiment.id in state.chain:
            continue
        if experiment.kind is not Kind.BASELINE and not state.lineage:
            return  # the baseline is measured several times, and comes first
        if not device_classes.waits_for_base(state, plan, experiment):
            yield _verdict(state, experiment, plan)
            return


def _objections(state: StudyState, link: Experiment, plan: StudyPlan) -> Iterator[Command]:
    """Say what keeps a link of a chain from winning, whatever it scored."""
    reference = state.experiments[root(state, link)]
    delta = plan.metric.improvement(link.evidence.score.mean, reference.worth)
    if breaches := _breaches(link, plan):
        found = Judgement(verdict=Verdict.DISCARD, delta=delta, reason="; ".join(breaches))
        yield RecordJudgement(experiment=link.id, judgement=found, reference=reference.id)
    elif not link.is_accepted and (reasons := _suspicions(state, link, plan)):
        yield _suspicion(link, delta, reasons, reference)


def _verdict(state: StudyState, experiment: Experiment, plan: StudyPlan) -> Command:
    found, reference = judgement(state, experiment, plan)
    found = seed_verdicts.told(_taught_once(found, state, experiment), experiment, plan)
    reasons = () if experiment.is_accepted else _suspicions(state, experiment, plan)
    if found.verdict is Verdict.KEEP and not experiment.is_accepted:
        objections = (*seed_verdicts.objections(experiment), *_barred_below(state, experiment))
        reasons = (*reasons, *objections)
    if reasons and found.verdict is not Verdict.DISCARD:
        return _suspicion(experiment, found.delta, reasons, reference)
    if reasons:  # it harms nobody; who reads its story should know
        words = f"{found.reason}; suspect besides: {'; '.join(reasons)}"
        found = replace(found, reason=words)
    is_first = experiment.kind is Kind.BASELINE
    return RecordJudgement(
        experiment=experiment.id,
        judgement=found,
        reference=reference.id,
        device_class=experiment.device_class,
        reference_class=device_classes.reference(state, plan) if is_first else "",
    )


def _suspicion(
    experiment: Experiment, delta: float, reasons: tuple[str, ...], reference: Experiment
) -> RecordSuspicion:
    return RecordSuspicion(
        suspected=ExperimentSuspected(
            experiment=experiment.id, delta=delta, reasons=reasons, reference=reference.id
        )
    )


def _taught_once(found: Judgement, state: StudyState, experiment: Experiment) -> Judgement:
    """Leave out of a later verdict on an experiment what the first has taught of other things.

    It rests on the runs of the first as well: they have told of the base, and the patch was counted
    among patches. What is believed of the candidate itself is told anew, from all of its runs.
    """
    learnt = found.learnt
    was_taken_back = any(name == "ControlJudged" for _, name in experiment.story)
    if learnt is None or not (experiment.effect or was_taken_back):
        return found
    memory = replace(learnt.memory, patches=state.memory.patches)
    return replace(found, learnt=replace(learnt, reference=None, memory=memory))


def judgement(
    state: StudyState, experiment: Experiment, plan: StudyPlan
) -> tuple[Judgement, Experiment]:
    """Return what the judge says of a measured experiment, and what it compared it with."""
    around = Circumstance(
        noise=noise(state, experiment.device_class),
        seeds=seed_verdicts.effects(state, plan, experiment.device_class, [experiment]),
        memory=state.memory,
        slots=state.open_slots or plan.slots,
    )
    is_screened = device_classes.is_screened(state, plan, experiment)
    if experiment.kind is Kind.BASELINE:
        if is_screened:
            return _to_the_reference(state, plan, "baseline", 0.0), experiment
        return plan.judge.begin(experiment.evidence, around), experiment
    if is_screened:
        return _screening(state, experiment, plan, around)
    reference = _reference(state, experiment, plan)
    carried = state.experiments.get(experiment.merge_of)
    evidence = replace(experiment.evidence, expected=carried.effect if carried else None)
    found = plan.judge.judge(evidence, reference.evidence, around)
    return _guarded(found, experiment, plan), reference


def _screening(
    state: StudyState, experiment: Experiment, plan: StudyPlan, around: Circumstance
) -> tuple[Judgement, Experiment]:
    """Discard what is no better than its base on another class; have the rest run again.

    What a discard teaches of patches stays; the score of its base on the reference class does not
    move by what was measured elsewhere.
    """
    base, kind = state.experiments[experiment.base], experiment.device_class
    if not base.values_on(kind):
        words = f"{base.id} cannot be measured on {kind}"
        return _to_the_reference(state, plan, words, 0.0), base
    found = plan.judge.judge(experiment.evidence, base.evidence_on(kind), around)
    found = _guarded(found, experiment, plan)
    if found.verdict is not Verdict.DISCARD:
        words = f"looks better on {kind} ({found.reason})"
        return _to_the_reference(state, plan, words, found.delta), base
    learnt = found.learnt and replace(found.learnt, candidate=None, reference=None)
    return replace(found, reason=f"on {kind}: {found.reason}", learnt=learnt), base


def _to_the_reference(state: StudyState, plan: StudyPlan, words: str, delta: float) -> Judgement:
    reason = f"{words}: to be run on {device_classes.reference(state, plan)}"
    return Judgement(verdict=Verdict.REPLICATE, delta=delta, reason=reason)


def _guarded(found: Judgement, experiment: Experiment, plan: StudyPlan) -> Judgement:
    breaches = _breaches(experiment, plan)
    if breaches and found.verdict is not Verdict.DISCARD:
        return replace(found, verdict=Verdict.DISCARD, reason="; ".join(breaches))
    return found


def _barred_below(state: StudyState, link: Experiment) -> tuple[str, ...]:
    """Return why a link of a chain that is over, and was run again, holds what must not be kept."""
    return tuple(
        f"it holds the patch of {one.id}, which is {one.status.words}"
        for one in below(state, link)
        if not one.promoted and (one.status is Status.SUSPECT or one.is_cancelled)
    )


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
    return pooled_noise(repeats(state, device_class).values())


def repeats(state: StudyState, device_class: str) -> Mapping[ExperimentId, tuple[float, ...]]:
    """Return the runs that the noise on a class is estimated from, by experiment.

    Until a class that screens knows of its own, it is taken to be as on the reference class.
    """
    own = _repeats_on(state, device_class)
    if device_class == state.reference_class or pooled_noise(own.values()).dof >= KNOWN_THERE:
        return own
    return _repeats_on(state, state.reference_class) or own


def _repeats_on(state: StudyState, device_class: str) -> dict[ExperimentId, tuple[float, ...]]:
    found = {name: state.experiments[name].values_on(device_class) for name in state.replicated}
    return {name: values for name, values in found.items() if len(values) > 1}


def _suspicions(state: StudyState, experiment: Experiment, plan: StudyPlan) -> tuple[str, ...]:
    """Return why the latest score may not have been earned; the earlier ones were looked at."""
    run = experiment.last_run
    if experiment.kind is Kind.BASELINE:  # whatever it does is the repository's habit
        return (*implausible(run.value, plan.metric), *_breaches(experiment, plan))
    made_of = {ExperimentId("e0"), experiment.base, experiment.merge_of} - {ExperimentId("")}
    found = [state.experiments[name] for name in sorted(made_of)]
    precedents = [one.last_run for one in found if one.scored]
    return suspicions(run, precedents, metric=plan.metric, budget_s=plan.budget_s)


def _reference(state: StudyState, experiment: Experiment, plan: StudyPlan) -> Experiment:
    """Return what an experiment has to beat: the incumbent, or its base where that is worse.

    A patch made on an older incumbent may be worth merging though its tree alone is behind by now.
    A judge that learns of patches is asked what the patch did to its own base.
    """
    base = state.experiments[experiment.base]
    if not base.scored:  # a link of a chain that failed, and what was made on it is tried again
        base = state.experiments[root(state, experiment)]
    incumbent = state.incumbent
    if incumbent is None or incumbent.id == base.id or base.belief is not None:
        return base
    if base.device_class == FROM_GIT:  # an older one, which was not measured again
        return incumbent
    ahead = plan.metric.is_better(base.evidence.score.mean, incumbent.evidence.score.mean)
    return incumbent if ahead else base
