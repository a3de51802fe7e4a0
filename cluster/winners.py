"""Questions that the reducer asks of winners and of what is on the branch. Pure."""

from collections.abc import Iterator

from cluster.experiment import Experiment, Status
from cluster.state import StudyState
from eval.metric import Metric
from trainer.trial import ExperimentId


def ranked(state: StudyState, metric: Metric) -> list[Experiment]:
    """All open winners, best first; ties go to the older one."""
    if not state.counts.get(Status.WINNER):
        return []  # mostly so, and it spares a walk over all that is open
    found = [state.experiments[e] for e, status in state.open.items() if status is Status.WINNER]
    sign = metric.improvement(1.0, 0.0)

    def rank(winner: Experiment) -> tuple[float, int]:
        return (-sign * winner.worth, number(winner))

    return sorted(found, key=rank)


def number(experiment: Experiment) -> int:
    """Return the number in an experiment's id: 42 for e42."""
    return int(experiment.id[1:])


def lacks(state: StudyState, winner: Experiment) -> tuple[ExperimentId, ...]:
    """Return the promoted experiments whose patches the winner's tree does not hold, oldest first.

    A tree holds its own patch, those of its base, and for a merge those of the winner it carries.
    """
    held: set[ExperimentId] = set()
    unseen = [winner.id]
    while unseen:
        experiment = state.experiments.get(unseen.pop())
        if experiment is not None and experiment.id not in held:
            held.add(experiment.id)
            unseen += [experiment.base, experiment.merge_of]
    return tuple(experiment for experiment in state.lineage if experiment not in held)


def root(state: StudyState, experiment: Experiment) -> ExperimentId:
    """Return the incumbent that an experiment was made on: that of the whole chain, for a link."""
    first = state.experiments.get(experiment.chain)
    return (first or experiment).base


def below(state: StudyState, head: Experiment) -> tuple[Experiment, ...]:
    """Return the links of a chain that lie below one of them, the first of the chain first."""
    found: list[Experiment] = []
    link = head
    while link.chain and link.id != link.chain:
        link = state.experiments[link.base]
        found.append(link)
    return tuple(reversed(found))


def carrier(state: StudyState, experiment: Experiment) -> Experiment:
    """Return the experiment whose commit brings this one's patch, and no other, onto a tree.

    That is itself, but for a link of a chain: its commit brings all of the chain below it. Where
    that is what is wanted, because what lies below was never kept by itself, it is the link again.
    """
    while experiment.chain and experiment.id != experiment.chain:
        if state.experiments[experiment.base].status is not Status.KEPT:
            break
        experiment = state.experiments[experiment.merge_of]
    return experiment


def brought(state: StudyState, experiment: Experiment) -> tuple[ExperimentId, ...]:
    """Return whose patch an experiment brings: its own, and for a merge down to the proposal."""
    found = [experiment.id]
    while experiment.merge_of:
        experiment = state.experiments[experiment.merge_of]
        found.append(experiment.id)
    return tuple(found)


def takes_out(state: StudyState, experiment: Experiment) -> ExperimentId:
    """Return whose patch an experiment takes out of a tree; empty for all but reverts."""
    return state.experiments[brought(state, experiment)[-1]].reverts


def on_tree(state: StudyState, head: ExperimentId) -> tuple[Experiment, ...]:
    """Return what made the tree of `head`, the baseline first, without what was taken out again.

    A step that takes a patch out stays on the list; one that was itself taken out counts for
    nothing, so that the patch is back.
    """
    out: set[ExperimentId] = set()
    found = []
    for step in _path(state, head):
        if out.isdisjoint(brought(state, step)):
            found.append(step)
            out.add(takes_out(state, step))
    return tuple(reversed(found))


def _path(state: StudyState, head: ExperimentId) -> Iterator[Experiment]:
    """Yield an experiment and what it was made on, down to the baseline."""
    step = state.experiments[head]
    yield step
    while step.base != step.id:
        step = state.experiments[step.base]
        yield step


def without_reverted(
    state: StudyState, lineage: tuple[ExperimentId, ...], before: ExperimentId
) -> tuple[ExperimentId, ...]:
    """Return a lineage without what is taken out of its last one's tree.

    What had been taken out of the tree of `before`, the incumbent until then, and is in this one
    comes back: a better tree may hold a patch and lack its revert.
    """
    baseline, *others = lineage
    held = {step.id for step in on_tree(state, lineage[-1])}
    back = [
        e
        for e in reversed(_taken_out(state, before))
        if e in held and state.experiments[e].status is Status.KEPT
    ]
    gone = _taken_out(state, lineage[-1])
    return (baseline, *(e for e in (*back, *others) if e not in gone))


def _taken_out(state: StudyState, head: ExperimentId) -> list[ExperimentId]:
    held = {step.id for step in on_tree(state, head)}
    return [step.id for step in _path(state, head) if step.id not in held]


def is_moot(state: StudyState, experiment: ExperimentId, head: ExperimentId) -> bool:
    """Say whether an experiment takes out what the tree of `head` does not hold anyway."""
    target = takes_out(state, state.experiments[experiment])
    return bool(target) and all(target not in brought(state, e) for e in on_tree(state, head))
