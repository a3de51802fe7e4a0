"""What the events of candidates change that had not begun when the incumbent moved. Pure.

See cluster.state.transitions, of which this is a part.
"""

from cluster.state import events as ev
from cluster.state.experiment import Experiment, Status, Trial, TrialPhase
from cluster.state.replacing import replace
from cluster.state.state import StudyState
from cluster.state.steps import step
from cluster.state.study_transitions import Handler
from trainer.trial import ExperimentId, number_of

S = Status
_WAITING = frozenset({S.PROPOSED, S.QUEUED})


def _rebased(state: StudyState, event: ev.ExperimentRebased, rec: ev.Recorded) -> StudyState:
    before = state.experiments[event.experiment]
    proposed = before.proposed_parameters or before.parameters
    state = step(
        state,
        rec,
        before.id,
        S.CANCELLED if before.is_cancelled else S.PROPOSED,
        commit=event.commit,
        tree=event.tree,
        lines=event.lines,
        base=event.base,
        base_commit=event.base_commit,
        parameters=event.parameters,
        proposed_parameters={} if proposed == event.parameters else proposed,
        rebased_from=(*before.rebased_from, event.from_base),
        trials=_withdrawn(before.trials),
    )
    return _known_by(state, before, event.tree)


def _withdrawn(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """Return the trials with the one that waits taken out of the queue: what it was to run is past.

    Its number goes to another attempt, so that no attempt is ever of two trees.
    """
    return tuple(
        replace(trial, phase=TrialPhase.WITHDRAWN) if trial.phase is TrialPhase.QUEUED else trial
        for trial in trials
    )


def _known_by(state: StudyState, before: Experiment, tree: str) -> StudyState:
    """Keep the index of trees true: the tree that an experiment had may be that of a later one."""
    trees = state.trees
    if trees.get(before.tree) == before.id and before.tree != tree:
        later = range(number_of(before.id) + 1, len(state.experiments))
        others = (state.experiments[ExperimentId(f"e{number}")] for number in later)
        heir = next((other.id for other in others if other.tree == before.tree), None)
        trees = trees.set(before.tree, heir) if heir else trees.delete(before.tree)
    return replace(state, trees=trees if tree in trees else trees.set(tree, before.id))


def _conflicted(state: StudyState, event: ev.RebaseConflicted, rec: ev.Recorded) -> StudyState:
    status = state.experiments[event.experiment].status
    if status not in _WAITING:
        return state  # it began, or was cancelled, while that was written down
    return step(state, rec, event.experiment, status, stays_beside=event.onto)


def _returned(state: StudyState, event: ev.ExperimentReturned, rec: ev.Recorded) -> StudyState:
    before = state.experiments[event.experiment]
    if before.status not in _WAITING:
        return state  # it was cancelled while that was written down
    trials = _withdrawn(before.trials)
    return step(state, rec, before.id, S.CANCELLED, reason=event.reason, trials=trials)


STALENESS_HANDLERS: dict[type[ev.Event], Handler] = {
    ev.ExperimentRebased: _rebased,
    ev.RebaseConflicted: _conflicted,
    ev.ExperimentReturned: _returned,
}
