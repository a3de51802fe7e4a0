"""`apply(state, recorded) -> state`: what each event changes. Pure.

Which steps an experiment may take is `cluster.steps`' to say.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from immutables import Map

from cluster import events as ev
from cluster.experiment import FAILURE_OF_ENDING, Experiment, Kind, Status, Trial, TrialPhase
from cluster.state import SlotState, StudyState
from cluster.steps import TRANSITIONS, step
from eval.judge import Verdict
from trainer.trial import Ending, ExperimentId, SlotId, TrialId

MOST_LOSSES = 3
"""An experiment whose attempts were lost this often is given up."""

S = Status


def apply(state: StudyState, recorded: ev.Recorded) -> StudyState:
    """Return the state after one more event.

    Raises:
        cluster.steps.IllegalTransition: the event cannot follow what was recorded before.
        ValueError: a gap in the sequence numbers.
    """
    if recorded.seq != state.seq + 1:
        raise ValueError(f"event {recorded.seq} cannot follow event {state.seq}")
    handler = _HANDLERS[type(recorded.event)]
    return replace(handler(state, recorded.event, recorded), seq=recorded.seq)


# --- the study -----------------------------------------------------------------------------------


def _study_started(state: StudyState, event: ev.StudyStarted, rec: ev.Recorded) -> StudyState:
    return replace(
        state,
        study=event.study,
        base_commit=event.base_commit,
        metric=event.metric,
        goal=event.goal,
        started_at=rec.at,
    )


def _controller_started(
    state: StudyState, event: ev.ControllerStarted, _: ev.Recorded
) -> StudyState:
    # A new controller is a new will to run: what ended the last one is past. Workers that live on
    # present themselves again.
    return replace(
        state,
        slots=_all_closed(state),
        epoch=event.epoch,
        stopping="",
        finished="",
        is_failed=False,
        exhausted=Map(),
        rejections_in_a_row=0,
    )


def _controller_stopped(
    state: StudyState, _event: ev.ControllerStopped, _: ev.Recorded
) -> StudyState:
    return replace(state, slots=_all_closed(state))


def _all_closed(state: StudyState) -> Map[SlotId, SlotState]:
    return Map({name: replace(slot, is_open=False) for name, slot in state.slots.items()})


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
    return replace(state, slots=state.slots.set(event.slot, slot))


def _slot_closed(state: StudyState, event: ev.SlotClosed, _: ev.Recorded) -> StudyState:
    slot = state.slots.get(event.slot)
    if slot is None:
        return state
    closed = replace(slot, is_open=False, trial=TrialId(""), since=None, note=event.reason)
    return replace(state, slots=state.slots.set(event.slot, closed))


# --- what people ask for -------------------------------------------------------------------------


def _submission(state: StudyState, event: ev.SubmissionReceived, _: ev.Recorded) -> StudyState:
    return replace(state, submissions=(*state.submissions, event))


def _cancel_requested(state: StudyState, event: ev.CancelRequested, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is None or experiment.status not in TRANSITIONS[ev.CancelRequested]:
        return state  # it ended meanwhile: a request is a wish, not a fact about the experiment
    if experiment.status is S.PROPOSED:
        return step(state, rec, experiment.id, S.CANCELLED, is_cancelled=True, reason="cancelled")
    return step(state, rec, experiment.id, experiment.status, is_cancelled=True)


def _retry_requested(state: StudyState, event: ev.RetryRequested, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is None or experiment.status not in TRANSITIONS[ev.RetryRequested]:
        return state
    return step(
        state,
        rec,
        experiment.id,
        S.PROPOSED,
        is_cancelled=False,
        losses=0,
        verdict=None,
        delta=None,
    )


def _pause(state: StudyState, _event: ev.PauseRequested, _: ev.Recorded) -> StudyState:
    return replace(state, is_paused=True)


def _resume(state: StudyState, _event: ev.ResumeRequested, _: ev.Recorded) -> StudyState:
    return replace(state, is_paused=False)


def _stop(state: StudyState, event: ev.StopRequested, _: ev.Recorded) -> StudyState:
    now = event.now or state.stopping == "now"
    return replace(state, stopping="now" if now else "finish")


# --- experiments ---------------------------------------------------------------------------------


def _proposed(state: StudyState, event: ev.ExperimentProposed, rec: ev.Recorded) -> StudyState:
    source = state.experiments.get(event.merge_of)
    new = Experiment(
        id=event.experiment,
        kind=event.kind,
        status=S.PROPOSED,
        commit=event.commit,
        tree=event.tree,
        base=event.base,
        base_commit=event.base_commit,
        lines=event.lines,
        proposer=event.proposer,
        hypothesis=event.hypothesis,
        proposed_at=rec.at,
        priority=event.priority,
        parameters=event.parameters,
        merge_of=event.merge_of,
        generation=source.generation + 1 if source else 0,
        story=((rec.seq, type(event).__name__),),
    )
    if event.experiment != state.next_experiment:
        raise ValueError(f"{event.experiment} cannot follow {len(state.experiments)} experiments")
    state = replace(
        state,
        experiments=state.experiments.set(new.id, new),
        open=state.open.set(new.id, S.PROPOSED),
        counts=state.counts.set(S.PROPOSED, state.counts.get(S.PROPOSED, 0) + 1),
        trees=state.trees if new.tree in state.trees else state.trees.set(new.tree, new.id),
        submissions=_answered(state, event.submission),
    )
    if source is None:
        return state
    after = S.KEPT if source.status is S.KEPT else S.MERGING
    return _left_behind(step(state, rec, source.id, after, merged_as=new.id), source.id)


def _answered(state: StudyState, submission: str) -> tuple[ev.SubmissionReceived, ...]:
    return tuple(waiting for waiting in state.submissions if waiting.submission != submission)


def _left_behind(state: StudyState, experiment: ExperimentId) -> StudyState:
    return replace(state, rejoining=tuple(e for e in state.rejoining if e != experiment))


def _rejected(state: StudyState, event: ev.ProposalRejected, _: ev.Recorded) -> StudyState:
    in_a_row = state.rejections_in_a_row + (0 if event.submission else 1)
    return replace(
        state,
        submissions=_answered(state, event.submission),
        rejections_in_a_row=in_a_row,
    )


def _experiment_rejected(
    state: StudyState, event: ev.ExperimentRejected, rec: ev.Recorded
) -> StudyState:
    # A trial that is queued ends the row. Merges are nobody's proposals.
    in_a_row = state.rejections_in_a_row
    in_a_row += state.experiments[event.experiment].kind is Kind.PROPOSAL
    state = step(state, rec, event.experiment, S.REJECTED, reason=event.reason)
    return replace(state, rejections_in_a_row=in_a_row)


def _exhausted(state: StudyState, event: ev.ProposerExhausted, _: ev.Recorded) -> StudyState:
    return replace(state, exhausted=state.exhausted.set(event.proposer, event.reason))


def _trial_queued(state: StudyState, event: ev.TrialQueued, rec: ev.Recorded) -> StudyState:
    trial = Trial(
        id=event.trial,
        attempt=event.attempt,
        seed=event.seed,
        phase=TrialPhase.QUEUED,
        queued_at=rec.at,
    )
    trials = (*state.experiments[event.experiment].trials, trial)
    state = step(state, rec, event.experiment, S.QUEUED, trials=trials)
    return replace(state, rejections_in_a_row=0)


def _trial_started(state: StudyState, event: ev.TrialStarted, rec: ev.Recorded) -> StudyState:
    trial = replace(
        state.experiments[event.experiment].trial(event.trial, event.attempt),
        phase=TrialPhase.RUNNING,
        slot=event.slot,
        node=event.node,
        started_at=rec.at,
    )
    state = _with_trial(state, rec, event.experiment, trial, S.RUNNING)
    slot = state.slots.get(event.slot)
    if slot is None:
        return state
    busy = replace(slot, trial=event.trial, since=rec.at)
    return replace(state, slots=state.slots.set(event.slot, busy))


def _with_trial(
    state: StudyState,
    rec: ev.Recorded,
    experiment: ExperimentId,
    trial: Trial,
    after: Status,
    **changes: Any,  # noqa: ANN401 - dataclasses.replace takes any field
) -> StudyState:
    trials = tuple(
        trial if (old.id, old.attempt) == (trial.id, trial.attempt) else old
        for old in state.experiments[experiment].trials
    )
    return step(state, rec, experiment, after, trials=trials, **changes)


def _slot_freed(state: StudyState, slot: SlotId, trial: Trial) -> StudyState:
    state = replace(state, slot_seconds=state.slot_seconds + trial.seconds)
    known = state.slots.get(slot)
    if known is None or known.trial != trial.id:
        return state
    return replace(
        state, slots=state.slots.set(slot, replace(known, trial=TrialId(""), since=None))
    )


def _trial_finished(state: StudyState, event: ev.TrialFinished, rec: ev.Recorded) -> StudyState:
    trial = replace(
        state.experiments[event.experiment].trial(event.trial, event.attempt),
        phase=TrialPhase.FINISHED,
        finished_at=rec.at,
        outcome=event.outcome,
    )
    ending = event.outcome.ending
    after = S.MEASURED if ending is Ending.SCORED else FAILURE_OF_ENDING[ending]
    state = _with_trial(state, rec, event.experiment, trial, after, reason=event.outcome.reason)
    return _slot_freed(state, trial.slot, trial)


def _trial_lost(state: StudyState, event: ev.TrialLost, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments[event.experiment]
    trial = replace(
        experiment.trial(event.trial, event.attempt), phase=TrialPhase.LOST, finished_at=rec.at
    )
    losses = experiment.losses + (0 if event.is_given_back else 1)
    after = S.LOST if losses >= MOST_LOSSES else S.PROPOSED
    if experiment.is_cancelled:
        after = S.CANCELLED
    state = _with_trial(
        state, rec, event.experiment, trial, after, losses=losses, reason=event.reason
    )
    return _slot_freed(state, trial.slot, trial)


def _judged(state: StudyState, event: ev.ExperimentJudged, rec: ev.Recorded) -> StudyState:
    kind = state.experiments[event.experiment].kind
    after = {
        Verdict.KEEP: S.KEPT if kind is Kind.BASELINE else S.WINNER,
        Verdict.DISCARD: S.DISCARDED,
        Verdict.REPLICATE: S.PROPOSED,
    }[event.verdict]
    state = step(
        state,
        rec,
        event.experiment,
        after,
        verdict=event.verdict,
        delta=event.delta,
        reason=event.reason,
        judged_at=rec.at,
    )
    if after is S.KEPT:
        return replace(state, lineage=(event.experiment,), incumbent_commit=state.base_commit)
    return state


def _promoted(state: StudyState, event: ev.Promoted, rec: ev.Recorded) -> StudyState:
    state = step(state, rec, event.experiment, S.KEPT, promoted=event.commit)
    state = _sources_merged(state, event.experiment, rec)
    lineage = tuple(e for e in state.lineage if e not in event.lacks)
    return replace(
        state,
        lineage=(*lineage, event.experiment),
        incumbent_commit=event.commit,
        rejoining=(*state.rejoining, *event.lacks),
        promotions=state.promotions + 1,
    )


def _sources_merged(state: StudyState, merge: ExperimentId, rec: ev.Recorded) -> StudyState:
    """Mark the winners whose patches a promoted merge carries, down to the proposal."""
    source = state.experiments.get(state.experiments[merge].merge_of)
    while source is not None and source.status is S.MERGING:
        state = step(state, rec, source.id, S.MERGED, reason=f"on the branch by way of {merge}")
        source = state.experiments.get(source.merge_of)
    return state


def _merge_conflicted(state: StudyState, event: ev.MergeConflicted, rec: ev.Recorded) -> StudyState:
    source = state.experiments[event.experiment]
    reason = f"conflicts with {event.against} in {', '.join(event.paths)}"
    if source.status is S.KEPT:
        return _left_behind(step(state, rec, source.id, S.KEPT), source.id)
    return step(state, rec, source.id, S.CONFLICTED, reason=reason)


def _merge_redundant(state: StudyState, event: ev.MergeRedundant, rec: ev.Recorded) -> StudyState:
    source = state.experiments[event.experiment]
    if source.status is S.KEPT:
        return _left_behind(step(state, rec, source.id, S.KEPT), source.id)
    state = step(state, rec, source.id, S.MERGED, reason=f"already in {event.against}")
    return _sources_merged(state, source.id, rec)


def _winner_dropped(state: StudyState, event: ev.WinnerDropped, rec: ev.Recorded) -> StudyState:
    return step(state, rec, event.experiment, S.DROPPED, reason=event.reason)


_HANDLERS: dict[type[ev.Event], Callable[[StudyState, Any, ev.Recorded], StudyState]] = {
    ev.StudyStarted: _study_started,
    ev.ControllerStarted: _controller_started,
    ev.ControllerStopped: _controller_stopped,
    ev.StudyFinished: _study_finished,
    ev.SlotOpened: _slot_opened,
    ev.SlotClosed: _slot_closed,
    ev.SubmissionReceived: _submission,
    ev.CancelRequested: _cancel_requested,
    ev.RetryRequested: _retry_requested,
    ev.PauseRequested: _pause,
    ev.ResumeRequested: _resume,
    ev.StopRequested: _stop,
    ev.ExperimentProposed: _proposed,
    ev.ProposalRejected: _rejected,
    ev.ExperimentRejected: _experiment_rejected,
    ev.ProposerExhausted: _exhausted,
    ev.TrialQueued: _trial_queued,
    ev.TrialStarted: _trial_started,
    ev.TrialFinished: _trial_finished,
    ev.TrialLost: _trial_lost,
    ev.ExperimentJudged: _judged,
    ev.Promoted: _promoted,
    ev.MergeConflicted: _merge_conflicted,
    ev.MergeRedundant: _merge_redundant,
    ev.WinnerDropped: _winner_dropped,
}
