"""Which measured experiment is judged next, against what, and what is recorded of it. Pure.

Knows what a judge is shown and when a score is looked at twice. What is better is eval's to say.
"""

from collections.abc import Iterator
from dataclasses import replace

from cluster.commands import Command, RecordJudgement, RecordSuspicion
from cluster.experiment import Experiment, Kind, Status
from cluster.state import StudyState
from cluster.study_plan import StudyPlan
from cluster.winners import root
from eval.judge import Circumstance, Judgement, Verdict
from eval.noise import Noise, pooled_noise
from eval.suspicion import implausible, suspicions
from trainer.trial import ExperimentId


def due(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Judge one experiment: the next is judged with what this verdict teaches."""
    measured = state.opened(Status.MEASURED)
    of_chain = [experiment for experiment in measured if experiment.id in state.chain]
    for experiment in of_chain:  # all links are judged at once, by the reducer
        yield from _objections(state, experiment, plan)
    for experiment in [one for one in measured if one not in of_chain][:1]:
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


def _objections(state: StudyState, link: Experiment, plan: StudyPlan) -> Iterator[Command]:
    """Say what keeps a link of a chain from winning, whatever it scored."""
    reference = state.experiments[root(state, link)]
    delta = plan.metric.improvement(link.evidence.score.mean, reference.worth)
    if breaches := _breaches(link, plan):
        judgement = Judgement(verdict=Verdict.DISCARD, delta=delta, reason="; ".join(breaches))
        yield RecordJudgement(experiment=link.id, judgement=judgement, reference=reference.id)
    elif not link.is_accepted and (reasons := _suspicions(state, link, plan)):
        yield RecordSuspicion(
            experiment=link.id, delta=delta, reasons=reasons, reference=reference.id
        )


def _judgement(
    state: StudyState, experiment: Experiment, plan: StudyPlan
) -> tuple[Judgement, Experiment]:
    """Return what the judge says, and what of."""
    around = Circumstance(
        noise=noise(state, experiment.last_outcome.device_class),
        memory=state.memory,
        slots=state.open_slots or plan.slots,
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
    ahead = plan.metric.is_better(base.evidence.score.mean, incumbent.evidence.score.mean)
    return incumbent if ahead else base
