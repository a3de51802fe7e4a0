"""What events make of the record of a trial, whether it is a control or not. Pure.

What that means for its experiment is `cluster.state.transitions`' to say, and for what is checked
by it `cluster.state.control_transitions`'.
"""

from datetime import datetime, timedelta

from cluster.state.conditions import marks_of
from cluster.state.events import TrialFinished, TrialLost, TrialQueued, TrialStarted
from cluster.state.experiment import Trial, TrialPhase
from cluster.state.replacing import replace
from cluster.state.state import StudyState


def queued(event: TrialQueued, at: datetime) -> Trial:
    """Return a trial that waits for a slot."""
    return Trial(
        id=event.trial,
        attempt=event.attempt,
        seed=event.seed,
        phase=TrialPhase.QUEUED,
        queued_at=at,
        rung_s=event.rung_s,
    )


def started(state: StudyState, event: TrialStarted, at: datetime) -> Trial:
    """Return a trial that is on a slot; raises KeyError, as all below, for one that is unknown."""
    return replace(
        known(state, event),
        phase=TrialPhase.RUNNING,
        slot=event.slot,
        node=event.node,
        started_at=at,
    )


def finished(state: StudyState, event: TrialFinished, at: datetime) -> Trial:
    """Return a trial with its outcome, and with what was odd about its conditions."""
    return replace(
        known(state, event),
        phase=TrialPhase.FINISHED,
        finished_at=at,
        outcome=event.outcome,
        marks=marks_of(event.outcome, state.incumbent),
    )


def lost(state: StudyState, event: TrialLost, at: datetime) -> Trial:
    """Return a trial of which this attempt will never report."""
    trial = known(state, event)
    until = _lost_at(state, trial, event, at)
    return replace(trial, phase=TrialPhase.LOST, finished_at=until)


def known(state: StudyState, event: TrialStarted | TrialFinished | TrialLost) -> Trial:
    """Return the trial that an event is about, as it is before."""
    return state.experiments[event.experiment].trial(event.trial, event.attempt)


def _lost_at(state: StudyState, trial: Trial, event: TrialLost, at: datetime) -> datetime:
    """Return until when a trial that was lost is taken to have held its slot.

    Without the time between two controllers, unless its worker gave it back: nobody knows of others
    how much of that they ran, and after a power cut it is none.
    """
    begun, since = trial.started_at, state.running_since
    if event.is_given_back or begun is None or since is None or begun >= since:
        return at
    return max(begun, at - timedelta(seconds=state.away_s))
