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
from cluster.experiment import Experiment, Kind
from cluster.ledger import Ledger
from cluster.state import StudyState
from cluster.study_repository import Candidate, Conflict, Redundant, Rejected, StudyRepository
from cluster.submissions import materialise
from cluster.trial_queue import TrialQueue
from eval.metric import Metric
from proposer.proposal import Context, Proposal
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
        self._files: tuple[CommitId, Mapping[str, str]] = (CommitId(""), {})

    def record(self, event_id: str, event: ev.Event) -> None:
        """Append one event under this controller's epoch."""
        self._ledger.append([ev.Draft(id=event_id, at=self._now(), event=event)], epoch=self._epoch)

    def files_at(self, commit: CommitId) -> Mapping[str, str]:
        """Return the text of all editable files at a commit."""
        if self._files[0] != commit:
            self._files = (commit, self._repository.read_files(commit, self._editable))
        return self._files[1]

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
        common = ev.SubmissionReceived(submission="", hypothesis=proposal.hypothesis)
        self._enter(state, made, context.incumbent, context.commit, author, common, proposal)

    def _enter(
        self,
        state: StudyState,
        made: Candidate | Rejected,
        base: ExperimentId,
        base_commit: CommitId,
        author: str,
        submission: ev.SubmissionReceived,
        proposal: Proposal | None = None,
    ) -> None:
        """Record a proposal or a submission that git has made a candidate of, or refused."""
        duplicate = state.trees.get(made.tree) if isinstance(made, Candidate) else None
        if isinstance(made, Rejected) or duplicate is not None:
            reason = made.reason if isinstance(made, Rejected) else f"the same tree as {duplicate}"
            event_id = f"{submission.submission}/rejected" if submission.submission else ""
            self.record(
                event_id or f"seq{state.seq}/rejected",
                ev.ProposalRejected(
                    proposer=author,
                    hypothesis=submission.hypothesis,
                    reason=reason,
                    duplicate_of=duplicate or ExperimentId(""),
                    submission=submission.submission,
                ),
            )
            return
        self._found(
            state,
            made,
            kind=Kind.PROPOSAL,
            base=base,
            base_commit=base_commit,
            proposer=author,
            hypothesis=submission.hypothesis,
            priority=submission.priority,
            parameters=proposal.parameters if proposal else {},
            submission=submission.submission,
        )

    def _found(  # noqa: PLR0913 - the fields of one event
        self,
        state: StudyState,
        made: Candidate,
        *,
        kind: Kind,
        base: ExperimentId,
        base_commit: CommitId,
        proposer: str,
        hypothesis: str,
        priority: int = 0,
        parameters: Mapping[str, bool | int | float | str] | None = None,
        submission: str = "",
        merge_of: ExperimentId = ExperimentId(""),
    ) -> None:
        """Give a candidate its ref and its number."""
        experiment = state.next_experiment
        self._repository.keep_ref(experiment, made.commit)
        self.record(
            f"{experiment}/proposed",
            ev.ExperimentProposed(
                experiment=experiment,
                kind=kind,
                commit=made.commit,
                tree=made.tree,
                base=base,
                base_commit=base_commit,
                lines=made.lines,
                proposer=proposer,
                hypothesis=hypothesis,
                priority=priority,
                parameters=parameters or {},
                submission=submission,
                merge_of=merge_of,
            ),
        )

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
        self._found(
            state,
            made,
            kind=Kind.BASELINE,
            base=ExperimentId("e0"),
            base_commit=base,
            proposer="baseline",
            hypothesis="baseline",
        )

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
        judgement = command.judgement
        self.record(
            f"{experiment.id}/judged/{len(experiment.values)}",
            ev.ExperimentJudged(
                experiment=experiment.id,
                verdict=judgement.verdict,
                delta=judgement.delta,
                reason=judgement.reason,
                reference=command.reference,
            ),
        )

    @perform.register
    def _promote(self, command: cmd.Promote, state: StudyState) -> None:
        winner, replaced = command.winner, command.replaces
        commit = self._repository.promote(
            experiment=winner.id,
            tree=winner.tree,
            parent=state.incumbent_commit,
            subject=winner.hypothesis,
            trailers=self._trailers(winner, replaced),
        )
        self.record(
            f"{winner.id}/promoted",
            ev.Promoted(
                experiment=winner.id, commit=commit, replaces=replaced.id, lacks=command.lacks
            ),
        )

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
            self._found(
                state,
                merged,
                kind=Kind.MERGE,
                base=incumbent.id,
                base_commit=state.incumbent_commit,
                proposer=winner.proposer,
                hypothesis=winner.hypothesis,
                merge_of=winner.id,
            )

    @perform.register
    def _drop(self, command: cmd.DropWinner, _: StudyState) -> None:
        event = ev.WinnerDropped(experiment=command.winner, reason=command.reason)
        self.record(f"{command.winner}/dropped", event)

    @perform.register
    def _materialise(self, command: cmd.Materialise, state: StudyState) -> None:
        submission = command.submission
        base, base_commit = state.lineage[-1], state.incumbent_commit
        made, proposal = materialise(
            submission,
            repository=self._repository,
            base=base_commit,
            files=self.files_at(base_commit),
            editable=self._editable,
            source=self._source,
        )
        self._enter(state, made, base, base_commit, "user", submission, proposal)

    @perform.register
    def _finish(self, command: cmd.FinishStudy, _: StudyState) -> None:
        event = ev.StudyFinished(reason=command.reason, failed=command.failed)
        self.record(f"finished/{self._epoch}", event)
