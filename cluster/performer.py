"""Performs commands: git and the queue on one side, events on the other.

Each method may be run again after a crash at any point: events carry ids that depend only on what
they tell, git compares before it sets, and the queue knows what it holds.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import singledispatchmethod
from pathlib import Path

from cluster import commands as cmd
from cluster import events as ev
from cluster.admission import Admission, Origin
from cluster.experiment import Experiment, Kind, Status
from cluster.ledger import Ledger
from cluster.reducer import lacks
from cluster.source_repository import SourceProblem
from cluster.state import StudyState
from cluster.study_repository import (
    BranchMoved,
    Candidate,
    Conflict,
    Redundant,
    Rejected,
    StudyRepository,
)
from cluster.submissions import materialise
from cluster.trial_queue import TrialQueue
from eval.metric import Metric
from proposer.proposal import Context, Proposal
from trainer.git_command import GitError
from trainer.preflight import Preflight
from trainer.trial import CommitId, ExperimentId, TrialSpec


class Performer:
    """Turns commands and proposals into facts."""

    def __init__(  # noqa: PLR0913 - the composition root's one call
        self,
        *,
        ledger: Ledger,
        queue: TrialQueue,
        repository: StudyRepository,
        source: Path,
        editable: Sequence[str],
        metric: Metric,
        budget_s: float,
        timeout_s: float,
        epoch: int,
        clock: Callable[[], datetime],
        preflight: Preflight | None = None,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._repository = repository
        self._source = source
        self._editable = tuple(editable)
        self._metric = metric
        self._budget_s = budget_s
        self._timeout_s = timeout_s
        self._epoch = epoch
        self._now = clock
        self._admission = Admission(
            repository=repository, editable=editable, preflight=preflight, record=self._record
        )

    def record(self, event_id: str, event: ev.Event) -> None:
        """Append one event under this controller's epoch."""
        self._record([(event_id, event)])

    def _record(self, events: Sequence[tuple[str, ev.Event]]) -> None:
        """Append events, each with its id, all or none."""
        at = self._now()
        drafts = [ev.Draft(id=name, at=at, event=event) for name, event in events]
        self._ledger.append(drafts, epoch=self._epoch)

    def files_at(self, commit: CommitId) -> Mapping[str, str]:
        """Return the text of all editable files at a commit."""
        return self._admission.files_at(commit)

    # --- candidates ------------------------------------------------------------------------------

    def propose(self, state: StudyState, author: str, proposal: Proposal, context: Context) -> None:
        """Make an experiment of a proposal, or record why not."""
        made = self._repository.commit_edits(
            base=context.commit,
            edits=proposal.edits,
            editable=self._editable,
            message=proposal.hypothesis,
            author=author,
        )
        origin = Origin(
            kind=Kind.PROPOSAL,
            base=context.incumbent,
            base_commit=context.commit,
            proposer=author,
            hypothesis=proposal.hypothesis,
            parameters=proposal.parameters,
        )
        self._admission.enter(state, made, origin, {**context.files, **proposal.edits})

    # --- commands --------------------------------------------------------------------------------

    @singledispatchmethod
    def perform(self, command: cmd.Command, state: StudyState) -> None:
        """Perform one command; `state` is the state after everything performed before."""
        raise TypeError(f"nobody performs {type(command).__name__} (event {state.seq})")

    @perform.register
    def _create_baseline(self, _: cmd.CreateBaseline, state: StudyState) -> None:
        base = state.base_commit
        self._repository.start_branch(base)
        made = Candidate(
            commit=base,
            tree=self._repository.tree_of(base),
            lines=self._repository.count_lines(base, self._editable),
            changed=(),
        )
        origin = Origin(
            kind=Kind.BASELINE,
            base=ExperimentId("e0"),
            base_commit=base,
            proposer="baseline",
            hypothesis="baseline",
        )
        self._admission.found(state, made, origin)

    @perform.register
    def _queue_trial(self, command: cmd.QueueTrial, _: StudyState) -> None:
        spec = TrialSpec(
            trial=command.trial,
            experiment=command.experiment.id,
            attempt=command.attempt,
            commit=command.experiment.commit,
            seed=command.seed,
            budget_s=self._budget_s,
            timeout_s=self._timeout_s,
            smoke=command.smoke,
            place=command.place,
            is_control=command.is_control,
        )
        self._queue.put(spec, priority=command.priority, now=self._now(), epoch=self._epoch)

    @perform.register
    def _cancel(self, command: cmd.CancelTrial, _: StudyState) -> None:
        self._queue.cancel(command.trial, now=self._now(), epoch=self._epoch)

    @perform.register
    def _give_back(self, _: cmd.GiveBackTrials, __: StudyState) -> None:
        self._queue.give_back_all(epoch=self._epoch)

    @perform.register
    def _judge(self, command: cmd.RecordJudgement, state: StudyState) -> None:
        experiment = state.experiments[command.experiment]
        self.record(f"{experiment.id}/judged/{experiment.finished}", command.event)

    @perform.register
    def _judge_control(self, command: cmd.RecordControl, _: StudyState) -> None:
        self.record(f"{command.trial}/control", command.event)

    @perform.register
    def _suspect(self, command: cmd.RecordSuspicion, state: StudyState) -> None:
        experiment = state.experiments[command.experiment]
        self.record(
            f"{experiment.id}/suspected/{experiment.finished}",
            ev.ExperimentSuspected(
                experiment=experiment.id,
                delta=command.delta,
                reasons=command.reasons,
                reference=command.reference,
            ),
        )

    @perform.register
    def _promote(self, command: cmd.Promote, state: StudyState) -> None:
        winner, replaced = command.winner, command.replaces
        try:
            commit = self._repository.promote(
                experiment=winner.id,
                tree=winner.tree,
                parent=state.incumbent_commit,
                subject=winner.hypothesis,
                trailers=self._trailers(winner, replaced),
            )
        except BranchMoved as moved:
            # Killed between git and the ledger, and another winner is the better one by now.
            winner, commit = self._landed(state, moved), moved.actual or CommitId("")
        self.record(
            f"{winner.id}/promoted",
            ev.Promoted(
                experiment=winner.id,
                commit=commit,
                replaces=replaced.id,
                lacks=lacks(state, winner),
            ),
        )

    def _landed(self, state: StudyState, moved: BranchMoved) -> Experiment:
        """Return the winner whose promotion git knows but not the ledger; else raise `moved`."""
        if moved.actual is not None:
            name = self._repository.promoted_by(moved.actual, parent=state.incumbent_commit)
            experiment = state.experiments.get(name)
            if experiment is not None and experiment.status is Status.WINNER:
                is_same = self._repository.tree_of(moved.actual) == experiment.tree
                if is_same:
                    return experiment
        raise moved

    def _trailers(self, winner: Experiment, replaced: Experiment) -> list[tuple[str, str]]:
        new, old = winner.evidence.score.mean, replaced.evidence.score.mean
        trials = ", ".join(str(t.id) for t in winner.trials if t.outcome is not None)
        return [
            ("Metric", f"{self._metric.name} {new:.6g} (was {old:.6g})"),
            ("Trials", trials),
            ("Proposer", winner.proposer),
            ("Hypothesis", winner.hypothesis),
        ]

    @perform.register
    def _merge(self, command: cmd.Merge, state: StudyState) -> None:
        winner, incumbent = command.winner, command.incumbent
        merged = self._repository.merge(
            incumbent=state.incumbent_commit,
            winner=winner.commit,
            message=f"Merge {winner.id} onto {incumbent.id}: {winner.hypothesis}",
            editable=self._editable,
        )
        event_id = f"{winner.id}/merge/{incumbent.id}"
        if isinstance(merged, Conflict):
            self.record(
                event_id,
                ev.MergeConflicted(experiment=winner.id, against=incumbent.id, paths=merged.paths),
            )
        elif isinstance(merged, Redundant):
            self.record(event_id, ev.MergeRedundant(experiment=winner.id, against=incumbent.id))
        else:
            origin = Origin(
                kind=Kind.MERGE,
                base=incumbent.id,
                base_commit=state.incumbent_commit,
                proposer=winner.proposer,
                hypothesis=winner.hypothesis,
                merge_of=winner.id,
            )
            self._admission.found(
                state, merged, origin, self._admission.problem(origin.base_commit, merged)
            )

    @perform.register
    def _drop(self, command: cmd.DropWinner, _: StudyState) -> None:
        event = ev.WinnerDropped(experiment=command.winner, reason=command.reason)
        self.record(f"{command.winner}/dropped", event)

    @perform.register
    def _materialise(self, command: cmd.Materialise, state: StudyState) -> None:
        submission = command.submission
        base, base_commit = state.lineage[-1], state.incumbent_commit
        proposal: Proposal | None = None
        made: Candidate | Rejected
        try:
            made, proposal = materialise(
                submission,
                repository=self._repository,
                base=base_commit,
                files=self.files_at(base_commit),
                editable=self._editable,
                source=self._source,
            )
        except (SourceProblem, GitError, LookupError, ValueError) as error:
            # Whatever is wrong with it, it must not stand in the way of all others for ever.
            made = Rejected(reason=f"{type(error).__name__}: {error}")
        origin = Origin(
            kind=Kind.PROPOSAL,
            base=base,
            base_commit=base_commit,
            proposer="user",
            hypothesis=submission.hypothesis,
            priority=submission.priority,
            parameters=proposal.parameters if proposal else {},
            submission=submission.submission,
        )
        self._admission.enter(state, made, origin)

    @perform.register
    def _finish(self, command: cmd.FinishStudy, _: StudyState) -> None:
        event = ev.StudyFinished(reason=command.reason, failed=command.failed)
        self.record(f"finished/{self._epoch}", event)
