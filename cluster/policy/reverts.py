"""Which commit of the branch is undone to take an experiment's patch out again, or why none. Pure.

Knows what the incumbent's tree is made of. Does not know git.
"""

from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from cluster.state.winners import brought, on_tree, takes_out
from trainer.trial import ExperimentId, number_of


class NotOnBranch(ValueError):
    """There is nothing of this experiment to be taken out; the message says why."""


def to_undo(state: StudyState, name: ExperimentId) -> Experiment:
    """Return the promoted experiment by which a patch came onto the incumbent's tree.

    That is the experiment itself or a merge of it, the last one if there were several. Raises
    NotOnBranch.
    """
    experiment = state.experiments.get(name)
    if experiment is None:
        raise NotOnBranch(f"there is no experiment {name} (see `incumbent log`)")
    if experiment.kind is Kind.BASELINE:
        raise NotOnBranch(f"{name} is the baseline: it has no patch that could be taken out")
    tree = on_tree(state, state.lineage[-1]) if state.lineage else ()
    for step in reversed(tree):
        if name in brought(state, step):
            return step
    raise NotOnBranch(_why_not(state, experiment))


def _why_not(state: StudyState, experiment: Experiment) -> str:
    name, status = experiment.id, experiment.status.words
    if by := taken_out_by(state, experiment):
        return f"{name} was taken out of the branch by {by} already"
    if experiment.status is Status.MERGED:
        return f"{name} has no commit of its own on the branch: {experiment.reason}"
    if not experiment.promoted:
        return f"{name} is {status}: only what is on the branch can be taken out of it"
    return f"{name} is not on the branch any more (see `incumbent why`)"


def reverted_by(state: StudyState, experiment: Experiment) -> list[Experiment]:
    """Return the experiments that take a patch out again, by whatever merge of it, oldest first."""
    found = [e for e in state.experiments.values() if _is_of(state, e.reverts, experiment)]
    return sorted(found, key=lambda one: number_of(one.id))


def taken_out_by(state: StudyState, experiment: Experiment) -> ExperimentId:
    """Return the experiment that took a patch out of the incumbent's tree; empty if none did."""
    tree = on_tree(state, state.lineage[-1]) if state.lineage else ()
    for step in reversed(tree):
        if not set(brought(state, step)).isdisjoint(brought(state, experiment)):
            break  # it is there, or is there again
        if _is_of(state, takes_out(state, step), experiment):
            return step.id
    return ExperimentId("")


def _is_of(state: StudyState, target: ExperimentId, experiment: Experiment) -> bool:
    """Say whether two experiments bring the same patch; False without a target."""
    if not target:
        return False
    others = brought(state, state.experiments[target])
    return not set(brought(state, experiment)).isdisjoint(others)
