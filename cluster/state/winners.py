"""Questions that the reducer asks of winners and of what is on the branch. Pure."""

from collections.abc import Iterable, Iterator

from cluster.state.experiment import Experiment, Status
from cluster.state.state import StudyState
from eval.metric import Metric
from trainer.trial import ExperimentId


def ranked(state: StudyState, metric: Metric) -> list[Experiment]:
    """All open winners, best first; ties go to the older one."""
    sign = metric.improvement(1.0, 0.0)
    return sorted(state.opened(Status.WINNER), key=lambda winner: -sign * winner.worth)


def lacks(state: StudyState, winner: Experiment) -> tuple[ExperimentId, ...]:
    """Return the promoted experiments whose patches the winner's tree does not hold, oldest first.

    What it holds only to take it out again is not lacking.
    """
    return left_out(state, state.lineage, winner.id)


def left_out(
    state: StudyState, experiments: Iterable[ExperimentId], head: ExperimentId
) -> tuple[ExperimentId, ...]:
    """Return those experiments of whose patches nothing went into the tree of `head`."""
    held = {_patch(state, step) for step in _path(state, head)}
    return tuple(e for e in experiments if _patch(state, state.experiments[e]) not in held)


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


def _patch(state: StudyState, experiment: Experiment) -> ExperimentId:
    """Return the proposal whose patch an experiment brings, by whatever merges."""
    return brought(state, experiment)[-1]


def takes_out(state: StudyState, experiment: Experiment) -> ExperimentId:
    """Return whose patch an experiment takes out of a tree; empty for all but reverts."""
    return state.experiments[_patch(state, experiment)].reverts


def on_tree(state: StudyState, head: ExperimentId) -> tuple[Experiment, ...]:
    """Return what made the tree of `head`, the baseline first, without what was taken out again.

    A step that takes a patch out stays on the list; one that was itself taken out counts for
    nothing, so that the patch is back.
    """
    out: set[ExperimentId] = set()
    found = []
    for step in _path(state, head):
        if _patch(state, step) not in out:
            found.append(step)
            if target := takes_out(state, step):
                out.add(_patch(state, state.experiments[target]))
    return tuple(reversed(found))


def _path(state: StudyState, head: ExperimentId) -> Iterator[Experiment]:
    """Yield an experiment and what it was made on, down to the baseline."""
    step = state.experiments[head]
    yield step
    while step.base != step.id:
        step = state.experiments[step.base]
        yield step


def lineage_of(state: StudyState, head: ExperimentId) -> tuple[ExperimentId, ...]:
    """Return the promoted experiments that made the tree of `head`, as `on_tree` has them.

    A link of a chain that was carried along without a score of its own is not among them.
    """
    return tuple(step.id for step in on_tree(state, head) if step.status is Status.KEPT)


def is_moot(state: StudyState, experiment: ExperimentId, head: ExperimentId) -> bool:
    """Say whether an experiment takes out what the tree of `head` does not hold anyway."""
    target = takes_out(state, state.experiments[experiment])
    if not target:
        return False
    patch = _patch(state, state.experiments[target])
    return all(_patch(state, step) != patch for step in on_tree(state, head))
