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
from cluster.code_outcomes import Candidate, Rejected
from cluster.experiment import Kind, Status
from cluster.integration import Integration
from cluster.ledger import Ledger
from cluster.source_repository import SourceProblem
from cluster.state import StudyState
from cluster.study_repository import StudyRepository
from cluster.submissions import materialise
from cluster.trial_queue import TrialQueue
from eval.metric import Metric
from proposer.proposal import Context, Proposal
from trainer.git_command import GitError
from trainer.preflight import Preflight
from trainer.reseed import SeedReader
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
        seeds: SeedReader | None = None,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._repository = repository
        self._source = source
        self._editable = tuple(editable)
        self._budget_s = budget_s
        self._timeout_s = timeout_s
        self._epoch = epoch
        self._now = clock
        self._admission = Admission(
            repository=repository,
            editable=editable,
            preflight=preflight,
            seeds=seeds or SeedReader(),
            record=self._record,
        )
        self._integration = Integration(
            repository=repository,
            admission=self._admission,
            metric=metric,
            editable=editable,
            record=self._record,
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
            is_repeat=command.is_repeat,
        )
        self._queue.put(spec, priority=command.priority, now=self._now(), epoch=self._epoch)

    @perform.register
    def _cancel(self, command: cmd.CancelTrial, _: StudyState) -> None:
        self._queue.cancel(command.trial, now=self._now(), epoch=self._epoch)

    @perform.register
    def _give_up(self, command: cmd.GiveUpTrial, _: StudyState) -> None:
        event = ev.TrialGivenUp(
            trial=command.trial,
            experiment=command.experiment,
            attempt=command.attempt,
            reason=command.reason,
        )
        self.record(f"{command.trial}/{command.attempt}/given-up", event)

    @perform.register
    def _prune(self, command: cmd.PruneTrial, _: StudyState) -> None:
        self._queue.prune(command.trial, epoch=self._epoch)

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
        self._integration.promote(command, state)

    @perform.register
    def _merge(self, command: cmd.Merge, state: StudyState) -> None:
        self._integration.merge(command, state)

    @perform.register
    def _settle_chain(self, command: cmd.SettleChain, state: StudyState) -> None:
        self._integration.settle(command, state)

    @perform.register
    def _drop(self, command: cmd.DropWinner, state: StudyState) -> None:
        event = ev.WinnerDropped(experiment=command.winner, reason=command.reason)
        # A promoted patch that was left behind can be given up once for each time it rejoined.
        is_kept = state.experiments[command.winner].status is Status.KEPT
        again = f"/{state.promotions}" if is_kept else ""
        self.record(f"{command.winner}/dropped{again}", event)

    @perform.register
    def _materialise(self, command: cmd.Materialise, state: StudyState) -> None:
        submission = command.submission
        # A submission has no base of its own: it is a patch on the best there is.
        base, base_commit = ExperimentId("e0"), state.base_commit
        if state.lineage:
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
