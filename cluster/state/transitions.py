"""`apply(state, recorded) -> state`: what each event changes. Pure.

Which steps an experiment may take is `cluster.state.steps`' to say.
"""

from typing import Any

from cluster.state import control_transitions as controls
from cluster.state import events as ev
from cluster.state import node_runs
from cluster.state import rung_transitions as rungs
from cluster.state import trial_records as records
from cluster.state.experiment import Experiment, Kind, Status, Trial
from cluster.state.node_transitions import NODE_HANDLERS
from cluster.state.proposing_transitions import (
    PROPOSING_HANDLERS,
    brought,
    fixes_before,
    proposed,
    with_task,
    without_task,
)
from cluster.state.replacing import replace
from cluster.state.staleness_transitions import STALENESS_HANDLERS
from cluster.state.state import PersonCommit, StudyState
from cluster.state.steps import STATUS_OF_ENDING, OutOfOrder, step
from cluster.state.study_transitions import OF_PEOPLE, STUDY_HANDLERS, Handler
from cluster.state.trial_accounts import replicated, slot_freed, slot_taken
from cluster.state.winners import is_moot, left_out, lineage_of
from eval.judge import Verdict
from trainer.trial import Ending, ExperimentId

MOST_LOSSES = 3
"""An experiment whose attempts were lost this often is given up."""

S = Status
_BY_WAY = frozenset({S.MERGING, S.DROPPED, S.CONFLICTED})
"""What a winner may be whose patch comes onto the branch by way of a merge: given up, too."""


def apply(state: StudyState, recorded: ev.Recorded) -> StudyState:
    """Return the state after one more event.

    Raises:
        cluster.state.steps.IllegalTransition: the event cannot follow what was recorded before.
        cluster.state.steps.OutOfOrder: what was recorded in between is not there.
    """
    if recorded.seq != state.seq + 1:
        raise OutOfOrder(f"event {recorded.seq} cannot follow event {state.seq}")
    handler = _HANDLERS[type(recorded.event)]
    changed = node_runs.noted(handler(state, recorded.event, recorded), recorded)
    heard_at = state.heard_at if isinstance(recorded.event, OF_PEOPLE) else recorded.at
    return replace(changed, seq=recorded.seq, heard_at=heard_at)


def _proposed(state: StudyState, event: ev.ExperimentProposed, rec: ev.Recorded) -> StudyState:
    source = state.experiments.get(event.merge_of)
    status = S.HELD if event.is_held else S.PROPOSED
    new = Experiment(
        id=event.experiment,
        kind=event.kind,
        status=status,
        commit=event.commit,
        tree=event.tree,
        base=event.base,
        base_commit=event.base_commit,
        lines=event.lines,
        proposer=event.proposer,
        hypothesis=event.hypothesis,
        proposed_at=rec.at,
        category=event.category,
        expected_effect=event.expected_effect,
        origin=event.origin,
        task=event.task,
        fixes=fixes_before(state, event.task),
        priority=event.priority,
        parameters=event.parameters,
        skips_rungs=any(s.in_full for s in state.submissions if s.submission == event.submission),
        promotions_before=state.promotions,
        merge_of=event.merge_of,
        generation=source.generation + 1 if source else 0,
        chain=event.chain,
        reverts=event.reverts,
        seeds=event.seeds,
        story=((rec.seq, type(event).__name__),),
    )
    if event.experiment != state.next_experiment:
        raise OutOfOrder(f"{event.experiment} cannot follow {len(state.experiments)} experiments")
    state = proposed(state, event)
    state = replace(
        _answered(state, event.submission, experiment=new.id),
        experiments=state.experiments.set(new.id, new),
        open=state.open.set(new.id, status),
        counts=state.counts.set(status, state.counts.get(status, 0) + 1),
        trees=state.trees if new.tree in state.trees else state.trees.set(new.tree, new.id),
        chain=(*state.chain, new.id) if new.chain else state.chain,
    )
    if source is None:
        return state
    after = S.KEPT if source.status is S.KEPT else S.MERGING
    return _left_behind(step(state, rec, source.id, after, merged_as=new.id), source.id)


def _answered(
    state: StudyState,
    submission: str,
    *,
    experiment: ExperimentId = ExperimentId(""),
    reason: str = "",
) -> StudyState:
    """Take a submission off the list; of a person's commit, note what became of it."""
    commits = state.person_commits
    for waiting in state.submissions:
        if waiting.submission == submission and waiting.commit:
            became = PersonCommit(submission=submission, experiment=experiment, reason=reason)
            commits = commits.set(waiting.commit, became)
    others = tuple(waiting for waiting in state.submissions if waiting.submission != submission)
    return replace(state, submissions=others, person_commits=commits)


def _left_behind(state: StudyState, experiment: ExperimentId) -> StudyState:
    return replace(state, rejoining=tuple(e for e in state.rejoining if e != experiment))


def _rejected(state: StudyState, event: ev.ProposalRejected, _: ev.Recorded) -> StudyState:
    in_a_row = state.rejections_in_a_row + (0 if event.submission else 1)
    state = without_task(brought(state, event.proposer), event.task)
    state = _answered(state, event.submission, reason=event.reason)
    return replace(state, rejections_in_a_row=in_a_row)


def _experiment_rejected(
    state: StudyState, event: ev.ExperimentRejected, rec: ev.Recorded
) -> StudyState:
    experiment = state.experiments[event.experiment]
    if experiment.status is S.CANCELLED:
        return state  # while it was looked at again on another base
    # A trial that is queued ends the row. Merges are nobody's proposals.
    in_a_row = state.rejections_in_a_row + (experiment.kind is Kind.PROPOSAL)
    state = step(state, rec, event.experiment, S.REJECTED, reason=event.reason)
    state = with_task(state, f"fix/{experiment.id}")
    return replace(state, rejections_in_a_row=in_a_row)


def _exhausted(state: StudyState, event: ev.ProposerExhausted, _: ev.Recorded) -> StudyState:
    return replace(state, exhausted=state.exhausted.set(event.proposer, event.reason))


def _trial_queued(state: StudyState, event: ev.TrialQueued, rec: ev.Recorded) -> StudyState:
    if event.is_control:
        return controls.queued(state, event, rec)
    trials = (*state.experiments[event.experiment].trials, records.queued(event, rec.at))
    state = step(state, rec, event.experiment, S.QUEUED, trials=trials)
    return replace(state, rejections_in_a_row=0)


def _trial_started(state: StudyState, event: ev.TrialStarted, rec: ev.Recorded) -> StudyState:
    if event.trial in state.controls:
        return controls.started(state, event, rec)
    trial = records.started(state, event, rec.at)
    state = _with_trial(state, rec, event.experiment, trial, S.RUNNING)
    counts = trial.rung_s is None  # controls are runs in full: as many of these pay for one
    return slot_taken(state, event.slot, event.trial, rec.at, counts=counts)


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


def _given_up(state: StudyState, event: ev.TrialGivenUp, rec: ev.Recorded) -> StudyState:
    experiment = state.experiments[event.experiment]
    latest = experiment.trials[-1]
    is_running = experiment.status is S.RUNNING
    if not is_running or (latest.id, latest.attempt) != (event.trial, event.attempt):
        return state  # it ended while that was written down
    return step(state, rec, experiment.id, S.RUNNING, given_up=event.reason)


def _trial_finished(state: StudyState, event: ev.TrialFinished, rec: ev.Recorded) -> StudyState:
    if event.trial in state.controls:
        return controls.finished(state, event, rec)
    trial = records.finished(state, event, rec.at)
    ending, reason = event.outcome.ending, event.outcome.reason
    if ending is Ending.PRUNED:  # the worker does not know why
        reason = state.experiments[event.experiment].given_up or reason
    after = STATUS_OF_ENDING[ending]
    if ending is Ending.SHORT and state.experiments[event.experiment].is_cancelled:
        after, reason = S.CANCELLED, "cancelled"
    state = _with_trial(state, rec, event.experiment, trial, after, reason=reason, given_up="")
    if after is S.CRASHED:
        state = with_task(state, f"fix/{event.experiment}")
    state = rungs.completed(state, event.experiment, trial)
    return slot_freed(replicated(state, event.experiment), trial.slot, event.experiment, trial)


def _trial_lost(state: StudyState, event: ev.TrialLost, rec: ev.Recorded) -> StudyState:
    if event.trial in state.controls:
        return controls.lost(state, event, rec)
    experiment = state.experiments[event.experiment]
    trial = records.lost(state, event, rec.at)
    losses = experiment.losses + (0 if event.is_given_back else 1)
    after = S.LOST if losses >= MOST_LOSSES else S.PROPOSED
    if experiment.is_cancelled:
        after = S.CANCELLED
    reason = node_runs.blame(experiment, trial, event.reason) if after is S.LOST else event.reason
    state = _with_trial(
        state, rec, event.experiment, trial, after, losses=losses, reason=reason, given_up=""
    )
    return slot_freed(state, trial.slot, event.experiment, trial)


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
    state = _learnt(state, event)
    if kind is Kind.BASELINE:
        baseline = state.experiments[event.experiment]
        state = replace(state, reference_class=event.reference_class or baseline.device_class)
    if after is S.KEPT:
        return replace(state, lineage=(event.experiment,), incumbent_commit=state.base_commit)
    return state


def _learnt(state: StudyState, event: ev.ExperimentJudged) -> StudyState:
    """Take over what the verdict taught of both trees, of the patch, and of patches in general."""
    learnt = event.learnt
    if learnt is None:
        return state
    judged = replace(
        state.experiments[event.experiment],
        belief=learnt.candidate,
        effect=learnt.effect,
        chance=learnt.chance,
        level=learnt.level,
    )
    experiments = state.experiments.set(judged.id, judged)
    if learnt.reference is not None:
        reference = replace(experiments[event.reference], belief=learnt.reference)
        experiments = experiments.set(reference.id, reference)
    return replace(state, experiments=experiments, memory=learnt.memory)


def _suspected(state: StudyState, event: ev.ExperimentSuspected, rec: ev.Recorded) -> StudyState:
    reason = "; ".join(event.reasons)
    return step(state, rec, event.experiment, S.SUSPECT, delta=event.delta, reason=reason)


def _chain_measured(state: StudyState, _event: ev.ChainMeasured, _: ev.Recorded) -> StudyState:
    return replace(state, chain=())


def _promoted(state: StudyState, event: ev.Promoted, rec: ev.Recorded) -> StudyState:
    for carried in event.carried:
        state = _carried(state, carried, rec)
    state = step(state, rec, event.experiment, S.KEPT, promoted=event.commit)
    state = _sources_merged(state, event.experiment, rec)
    left = left_out(state, (*state.rejoining, *event.lacks), event.experiment)
    return replace(
        state,
        lineage=lineage_of(state, event.experiment),
        incumbent_commit=event.commit,
        rejoining=tuple(e for e in left if not is_moot(state, e, event.experiment)),
        promotions=state.promotions + 1,
    )


def _carried(state: StudyState, carried: ev.Carried, rec: ev.Recorded) -> StudyState:
    """Note that a link below a promoted one has a commit on the branch, whatever its own end."""
    link = state.experiments[carried.experiment]
    if link.status is S.WINNER:
        state = step(state, rec, link.id, S.KEPT, promoted=carried.commit)
    else:
        link = replace(link, promoted=carried.commit)
        state = replace(state, experiments=state.experiments.set(link.id, link))
    return _sources_merged(state, carried.experiment, rec)


def _sources_merged(state: StudyState, merge: ExperimentId, rec: ev.Recorded) -> StudyState:
    """Mark the winners whose patches a promoted merge carries, down to the proposal."""
    source = state.experiments.get(state.experiments[merge].merge_of)
    while source is not None and source.status in _BY_WAY:
        state = step(state, rec, source.id, S.MERGED, reason=f"on the branch by way of {merge}")
        state = without_task(state, f"compose/{source.id}")
        source = state.experiments.get(source.merge_of)
    return state


def _merge_conflicted(state: StudyState, event: ev.MergeConflicted, rec: ev.Recorded) -> StudyState:
    source = state.experiments[event.experiment]
    reason = f"conflicts with {event.against} in {', '.join(event.paths)}"
    if source.status is S.KEPT:
        return _left_behind(step(state, rec, source.id, S.KEPT), source.id)
    state = step(state, rec, source.id, S.CONFLICTED, reason=reason)
    return with_task(state, f"compose/{source.id}")


def _merge_redundant(state: StudyState, event: ev.MergeRedundant, rec: ev.Recorded) -> StudyState:
    source = state.experiments[event.experiment]
    if source.status is S.KEPT:
        return _left_behind(step(state, rec, source.id, S.KEPT), source.id)
    state = step(state, rec, source.id, S.MERGED, reason=f"already in {event.against}")
    return _sources_merged(state, source.id, rec)


def _winner_requeued(state: StudyState, event: ev.WinnerRequeued, rec: ev.Recorded) -> StudyState:
    source = state.experiments[event.experiment]
    # A merge that was taken back before it ran has cost nothing and counts for nothing.
    is_free = state.experiments[event.link].status is S.CANCELLED
    changes: dict[str, Any] = {"merges": source.merges + (not is_free)}
    if event.effect is not None:
        changes["effect"] = event.effect
    if source.status is S.KEPT:
        state = step(state, rec, source.id, S.KEPT, **changes)
        behind = left_out(state, [source.id], state.lineage[-1])
        return replace(state, rejoining=(*state.rejoining, *behind))
    return step(state, rec, source.id, S.WINNER, **changes)


def _winner_dropped(state: StudyState, event: ev.WinnerDropped, rec: ev.Recorded) -> StudyState:
    if state.experiments[event.experiment].status is S.KEPT:
        state = step(state, rec, event.experiment, S.KEPT)
        return _left_behind(state, event.experiment)
    return step(state, rec, event.experiment, S.DROPPED, reason=event.reason)


_HANDLERS: dict[type[ev.Event], Handler] = {
    **STUDY_HANDLERS,
    **NODE_HANDLERS,
    **STALENESS_HANDLERS,
    **PROPOSING_HANDLERS,
    ev.ExperimentProposed: _proposed,
    ev.ProposalRejected: _rejected,
    ev.ExperimentRejected: _experiment_rejected,
    ev.ProposerExhausted: _exhausted,
    ev.TrialQueued: _trial_queued,
    ev.TrialStarted: _trial_started,
    ev.TrialGivenUp: _given_up,
    ev.TrialFinished: _trial_finished,
    ev.RungJudged: rungs.judged,
    ev.TrialLost: _trial_lost,
    ev.ExperimentJudged: _judged,
    ev.ControlJudged: controls.judged,
    ev.ExperimentSuspected: _suspected,
    ev.ChainMeasured: _chain_measured,
    ev.Promoted: _promoted,
    ev.MergeConflicted: _merge_conflicted,
    ev.MergeRedundant: _merge_redundant,
    ev.WinnerRequeued: _winner_requeued,
    ev.WinnerDropped: _winner_dropped,
}
