"""What the events of the study itself change: controllers, slots, and what people ask for. Pure.

See cluster.state.transitions, of which this is the part that is not about experiments.
"""

from collections.abc import Callable
from typing import Any

from immutables import Map

from cluster.state import events as ev
from cluster.state import final_runs
from cluster.state import hidden_label_events as hidden
from cluster.state.experiment import Status
from cluster.state.node_state import NodeState, NodeStatus
from cluster.state.replacing import replace
from cluster.state.state import PersonCommit, SlotState, StudyState
from cluster.state.steps import TRANSITIONS, step
from trainer.trial import SlotId, TrialId

OF_PEOPLE = (
    *(ev.SubmissionReceived, ev.CancelRequested, ev.RetryRequested, ev.AcceptRequested),
    *(ev.PauseRequested, ev.ResumeRequested, ev.StopRequested, ev.ApproveRequested),
    *(ev.RejectRequested, ev.NoteGiven, ev.DrainRequested, ev.NodeReleased),
    *(hidden.FinalBegun, hidden.FinalRunEnded, hidden.FinalReported),
)
"""What comes of commands: it may be told while nothing of the study runs."""
S = Status

Handler = Callable[[StudyState, Any, ev.Recorded], StudyState]


# --- the study -----------------------------------------------------------------------------------


def _study_started(state: StudyState, event: ev.StudyStarted, rec: ev.Recorded) -> StudyState:
    return replace(
        state,
        study=event.study,
        base_commit=event.base_commit,
        metric=event.metric,
        source=event.source,
        goal=event.goal,
        started_at=rec.at,
    )


def _controller_started(
    state: StudyState, event: ev.ControllerStarted, rec: ev.Recorded
) -> StudyState:
    # A new controller is a new will to run: what ended the last one is past. Workers that live on
    # present themselves again.
    heard_at = state.heard_at or rec.at
    was_killed = state.running_since is not None
    return replace(
        state,
        ran_s=state.running_s(heard_at),
        away_s=max(0.0, (rec.at - heard_at).total_seconds()) if was_killed else 0.0,
        running_since=rec.at,
        slots=_all_closed(state),
        epoch=event.epoch,
        head=event.node,
        stopping="",
        finished="",
        is_failed=False,
        exhausted=Map(),
        troubled=Map(),
        refused=None,
        rejections_in_a_row=0,
    )


def _controller_stopped(
    state: StudyState, _event: ev.ControllerStopped, rec: ev.Recorded
) -> StudyState:
    return replace(
        state,
        ran_s=state.running_s(rec.at),
        running_since=None,
        slots=_all_closed(state),
        nodes=_all_left(state, rec),
    )


def _all_closed(state: StudyState) -> Map[SlotId, SlotState]:
    return Map({name: replace(slot, is_open=False) for name, slot in state.slots.items()})


def _all_left(state: StudyState, rec: ev.Recorded) -> Map[str, NodeState]:
    """Return the nodes after a stop, which ends what joined them; the sick ones stay sick."""
    nodes = state.nodes
    for name, node in state.nodes.items():
        if node.joins and node.status in {NodeStatus.JOINED, NodeStatus.DRAINING}:
            left = replace(node, status=NodeStatus.LEFT, since=rec.at, reason="the study stopped")
            nodes = nodes.set(name, left)
    return nodes


def _study_finished(state: StudyState, event: ev.StudyFinished, _: ev.Recorded) -> StudyState:
    return replace(state, finished=event.reason, is_failed=event.failed)


def _slot_opened(state: StudyState, event: ev.SlotOpened, _: ev.Recorded) -> StudyState:
    known = state.slots.get(event.slot)
    slot = SlotState(
        slot=event.slot,
        incarnation=event.incarnation,
        node=event.node,
        device=event.device,
        device_class=event.device_class,
        note=event.note,
    )
    if known is not None and known.incarnation == event.incarnation:
        slot = replace(slot, trial=known.trial, since=known.since)
    if known is not None and known.device_class == slot.device_class:
        slot = replace(
            slot,
            since_control=known.since_control,
            checked_at=known.checked_at,
            shift=known.shift,
            shifts=known.shifts,
        )
    return replace(state, slots=state.slots.set(event.slot, slot))


def _slot_closed(state: StudyState, event: ev.SlotClosed, _: ev.Recorded) -> StudyState:
    slot = state.slots.get(event.slot)
    if slot is None:
        return state
    return without_slot(state, slot, event.reason)


def without_slot(state: StudyState, slot: SlotState, reason: str) -> StudyState:
    """Note that a slot is gone."""
    closed = replace(slot, is_open=False, trial=TrialId(""), since=None, note=reason)
    return replace(state, slots=state.slots.set(slot.slot, closed))


# --- what people ask for -------------------------------------------------------------------------


def _submission(state: StudyState, event: ev.SubmissionReceived, _: ev.Recorded) -> StudyState:
    commits = state.person_commits
    if event.commit:
        commits = commits.set(event.commit, PersonCommit(submission=event.submission))
    return replace(state, submissions=(*state.submissions, event), person_commits=commits)


def _cancel_requested(state: StudyState, event: ev.CancelRequested, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is None or experiment.status not in TRANSITIONS[ev.CancelRequested]:
        return state  # it ended meanwhile: a request is a wish, not a fact about the experiment
    if experiment.status in {S.PROPOSED, S.HELD}:
        return step(state, rec, experiment.id, S.CANCELLED, is_cancelled=True, reason="cancelled")
    return step(state, rec, experiment.id, experiment.status, is_cancelled=True)


def _retry_requested(state: StudyState, event: ev.RetryRequested, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is None or experiment.status not in TRANSITIONS[ev.RetryRequested]:
        return state
    trials = experiment.trials
    if experiment.status is S.SUSPECT:  # whatever it is, its mean with an honest value is nothing
        trials = (*trials[:-1], replace(trials[-1], is_set_aside=True))
    forgotten = {"is_cancelled": False, "is_accepted": False, "verdict": None, "delta": None}
    changes = {**forgotten, "trials": trials, "losses": 0, "skips_rungs": True}
    return step(state, rec, experiment.id, S.PROPOSED, **changes)


def _accept_requested(state: StudyState, event: ev.AcceptRequested, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is not None and experiment.status is S.SUSPECT:
        state = step(state, rec, experiment.id, S.MEASURED, is_accepted=True, delta=None)
    return state


def _pause(state: StudyState, _event: ev.PauseRequested, _: ev.Recorded) -> StudyState:
    return replace(state, is_paused=True)


def _resume(state: StudyState, _event: ev.ResumeRequested, _: ev.Recorded) -> StudyState:
    return replace(state, is_paused=False)


def _stop(state: StudyState, event: ev.StopRequested, _: ev.Recorded) -> StudyState:
    now = event.now or state.stopping == "now"
    return replace(state, stopping="now" if now else "finish")


# --- labels that nothing is chosen by ------------------------------------------------------------


def _holdout_scored(state: StudyState, event: hidden.HoldoutScored, _: ev.Recorded) -> StudyState:
    return replace(state, holdouts=(*state.holdouts, event))


def _final_begun(state: StudyState, event: hidden.FinalBegun, _: ev.Recorded) -> StudyState:
    return replace(state, finals=final_runs.begun(state.finals, event))


def _final_changed(
    state: StudyState, event: hidden.FinalRunEnded | hidden.FinalReported, _: ev.Recorded
) -> StudyState:
    return replace(state, finals=final_runs.changed(state.finals, event))


STUDY_HANDLERS: dict[type[ev.Event], Handler] = {
    ev.StudyStarted: _study_started,
    ev.ControllerStarted: _controller_started,
    ev.ControllerStopped: _controller_stopped,
    ev.StudyFinished: _study_finished,
    ev.SlotOpened: _slot_opened,
    ev.SlotClosed: _slot_closed,
    ev.SubmissionReceived: _submission,
    ev.CancelRequested: _cancel_requested,
    ev.RetryRequested: _retry_requested,
    ev.AcceptRequested: _accept_requested,
    ev.PauseRequested: _pause,
    ev.ResumeRequested: _resume,
    ev.StopRequested: _stop,
    hidden.HoldoutScored: _holdout_scored,
    hidden.FinalBegun: _final_begun,
    hidden.FinalRunEnded: _final_changed,
    hidden.FinalReported: _final_changed,
}
