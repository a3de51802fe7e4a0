"""Performs commands: git and the queue on one side, events on the other.

Each method may be run again after a crash at any point: events carry ids that depend only on what
they tell, git compares before it sets, and the queue knows what it holds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import singledispatchmethod
from pathlib import Path

from cluster import commands as cmd
from cluster import events as ev
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
from proposer.proposal import Context, Proposal, Scalar
from trainer.git_command import GitError
from trainer.preflight import Preflight
from trainer.trial import CommitId, ExperimentId, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Where a candidate comes from: what its event says beside what git says."""

    kind: Kind
    base: ExperimentId
    base_commit: CommitId
    proposer: str
    hypothesis: str
    priority: int = 0
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    submission: str = ""
    merge_of: ExperimentId = ExperimentId("")


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
        self._preflight = preflight
        self._files: tuple[CommitId, Mapping[str, str]] = (CommitId(""), {})

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
        origin = _Origin(
            kind=Kind.PROPOSAL,
            base=context.incumbent,
            base_commit=context.commit,
            proposer=author,
            hypothesis=proposal.hypothesis,
            parameters=proposal.parameters,
        )
        self._enter(state, made, origin, {**context.files, **proposal.edits})

    def _enter(
        self,
        state: StudyState,
        made: Candidate | Rejected,
        origin: _Origin,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Record a proposal or a submission that git has made a candidate of, or refused.

        `files` spares reading the candidate's editable files back from git.
        """
        if isinstance(made, Rejected):
            self._reject(state, origin, made.reason)
        elif made.tree in state.trees:
            self._reject(state, origin, "the same tree as {}", state.trees[made.tree])
        else:
            self._found(state, made, origin, self._problem(origin.base_commit, made, files))

    def _problem(
        self, base: CommitId, made: Candidate, files: Mapping[str, str] | None = None
    ) -> str:
        """Return why a candidate can only fail; empty if nothing says so, or nothing is asked."""
        if self._preflight is None:
            return ""
        try:
            before = self.files_at(base)
            after = files or self._repository.read_files(made.commit, self._editable)
        except (KeyError, ValueError):
            return ""  # not text, so none of what preflight knows
        return self._preflight.problem(base=base, before=before, after=after)

    def _reject(
        self,
        state: StudyState,
        origin: _Origin,
        reason: str,
        duplicate_of: ExperimentId = ExperimentId(""),
    ) -> None:
        # A submission is refused once; a proposer may come with the same idea again and again.
        name = origin.submission or f"after/{state.seq}"
        self.record(
            f"{name}/rejected",
            ev.ProposalRejected(
                proposer=origin.proposer,
                hypothesis=origin.hypothesis,
                reason=reason.format(duplicate_of),
                duplicate_of=duplicate_of,
                submission=origin.submission,
            ),
        )

    def _found(
        self, state: StudyState, made: Candidate, origin: _Origin, problem: str = ""
    ) -> None:
        """Give a candidate its ref and its number; with a `problem`, that is also its end."""
        experiment = state.next_experiment
        self._repository.keep_ref(experiment, made.commit)
        proposed = ev.ExperimentProposed(
            experiment=experiment,
            kind=origin.kind,
            commit=made.commit,
            tree=made.tree,
            base=origin.base,
            base_commit=origin.base_commit,
            lines=made.lines,
            proposer=origin.proposer,
            hypothesis=origin.hypothesis,
            priority=origin.priority,
            parameters=origin.parameters,
            submission=origin.submission,
            merge_of=origin.merge_of,
        )
        events: list[tuple[str, ev.Event]] = [(f"{experiment}/proposed", proposed)]
        if problem:
            # Together with the first, so that no trial of it can be queued in between.
            rejected = ev.ExperimentRejected(experiment=experiment, reason=problem)
            events.append((f"{experiment}/rejected", rejected))
        self._record(events)

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
        origin = _Origin(
            kind=Kind.BASELINE,
            base=ExperimentId("e0"),
            base_commit=base,
            proposer="baseline",
            hypothesis="baseline",
        )
        self._found(state, made, origin)

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
            origin = _Origin(
                kind=Kind.MERGE,
                base=incumbent.id,
                base_commit=state.incumbent_commit,
                proposer=winner.proposer,
                hypothesis=winner.hypothesis,
                merge_of=winner.id,
            )
            self._found(state, merged, origin, self._problem(origin.base_commit, merged))

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
        origin = _Origin(
            kind=Kind.PROPOSAL,
            base=base,
            base_commit=base_commit,
            proposer="user",
            hypothesis=submission.hypothesis,
            priority=submission.priority,
            parameters=proposal.parameters if proposal else {},
            submission=submission.submission,
        )
        self._enter(state, made, origin)

    @perform.register
    def _finish(self, command: cmd.FinishStudy, _: StudyState) -> None:
        event = ev.StudyFinished(reason=command.reason, failed=command.failed)
        self.record(f"finished/{self._epoch}", event)
