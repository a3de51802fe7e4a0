"""Questions that the reducer asks of winners and of what is on the branch. Pure."""

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
