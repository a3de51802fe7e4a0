"""What the end of a trial may tell of the node that it ran on. Pure.

A few of the latest ends on each node are remembered; what follows from them is
`cluster.policy.quarantine`'s to say.
"""

from cluster.state.events import Recorded, TrialFinished, TrialLost
from cluster.state.experiment import Experiment, Trial, TrialPhase
from cluster.state.node_state import MOST_RUNS, NodeRun
from cluster.state.replacing import replace
from cluster.state.state import StudyState
from cluster.state.trial_records import known
from trainer.trial import UNEXPLAINED, CrashKind, Ending, TrialOutcome

_PASSED = frozenset({Ending.SCORED, Ending.SHORT})
_FAILED = frozenset({Ending.CRASHED, Ending.TIMED_OUT})
_MACHINE = frozenset(
    {CrashKind.SIGNAL, CrashKind.OUT_OF_MEMORY, CrashKind.NOT_STARTED, CrashKind.DISK_FULL}
)


def noted(state: StudyState, rec: Recorded) -> StudyState:
    """Remember how a trial ended, if that may tell of its node."""
    event = rec.event
    if not isinstance(event, TrialFinished | TrialLost):
        return state
    trial = known(state, event)
    failure, is_machine = "", True
    if isinstance(event, TrialLost):
        if event.is_given_back:
            return state
        failure = event.reason or "lost"
    elif event.outcome.ending in _FAILED:
        failure = event.outcome.reason or event.outcome.ending
        is_machine = is_of_machine(event.outcome)
    elif event.outcome.ending not in _PASSED:
        return state  # somebody ended it
    if not trial.node:
        return state
    run = NodeRun(
        trial=trial.id,
        attempt=trial.attempt,
        experiment=event.experiment,
        slot=trial.slot,
        at=rec.at,
        failure=failure,
        is_machine=bool(failure) and is_machine,
        is_lost=isinstance(event, TrialLost),
        is_control=trial in state.experiments[event.experiment].controls,
    )
    runs = (*state.node_runs.get(trial.node, ()), run)[-MOST_RUNS:]
    return replace(state, node_runs=state.node_runs.set(trial.node, runs))


def is_of_machine(outcome: TrialOutcome) -> bool:
    """Say whether a trial crashed as trials do for a machine's reasons, its own code aside."""
    if outcome.ending is not Ending.CRASHED:
        return False
    is_unexplained = outcome.crash is CrashKind.EXCEPTION and outcome.reason.startswith(UNEXPLAINED)
    return outcome.crash in _MACHINE or is_unexplained


def passed_beside(experiment: Experiment, node: str) -> bool:
    """Say whether an experiment ran to its end on another node."""
    elsewhere = (trial for trial in experiment.all_trials if trial.node not in {"", node})
    return any(trial.outcome and trial.outcome.ending in _PASSED for trial in elsewhere)


def blame(experiment: Experiment, last: Trial, reason: str) -> str:
    """Return why an experiment is given up whose attempts were lost, the last one for `reason`.

    It is to blame where that was so on several nodes; else nobody can say.
    """
    lost = (trial for trial in (*experiment.trials, last) if trial.phase is TrialPhase.LOST)
    nodes = sorted({trial.node for trial in lost})
    if len(nodes) < 2:
        return reason
    return f"its workers went away on {' and '.join(nodes)} alike: {reason}"
