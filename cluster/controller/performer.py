"""Performs commands: git and the queue on one side, events on the other.

Each method may be run again after a crash at any point: events carry ids that depend only on what
they tell, git compares before it sets, and the queue knows what it holds.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import singledispatchmethod
from pathlib import Path

from cluster.controller.admission import Admission, Origin
from cluster.controller.integration import Integration
from cluster.controller.merging import Merging
from cluster.controller.person_commits import PersonCommits
from cluster.controller.rebasing import Rebasing
from cluster.controller.submissions import base_of, materialise
from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.mirror import Standing
from cluster.git.source_repository import SourceProblem
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import Ledger
from cluster.policy import commands as cmd
from cluster.policy import tasks
from cluster.policy.staleness import PERSON
from cluster.queue.queue_mode import QueueMode
from cluster.queue.trial_queue import TrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from eval.metric import Metric
from proposer.proposal import Context, Proposal, Task
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
        self._people = PersonCommits(
            repository=repository, source=source, editable=editable, record=self.record
        )
        merging = Merging(repository=repository, editable=editable)
        self._integration = Integration(
            repository=repository,
            merging=merging,
            admission=self._admission,
            metric=metric,
            record=self._record,
        )
        self._rebasing = Rebasing(
            repository=repository,
            merging=merging,
            admission=self._admission,
            editable=editable,
            tell=self._withdraw,
            record=self.record,
        )

    def record(self, event_id: str, event: ev.Event) -> None:
        """Append one event under this controller's epoch."""
        self._record([(event_id, event)])

    def _record(self, events: Sequence[tuple[str, ev.Event]]) -> None:
        """Append events, each with its id, all or none."""
        at = self._now()
        drafts = [ev.Draft(id=name, at=at, event=event) for name, event in events]
        self._ledger.append(drafts, epoch=self._epoch)

    def _withdraw(self, candidate: Experiment, event_id: str, event: ev.Event) -> bool:
        """Record what happened to a candidate that waits, with its trial out of the queue.

        False, and nothing has changed, if a slot has begun that trial.
        """
        if candidate.status is not Status.QUEUED:
            self.record(event_id, event)
            return True
        trial = candidate.trials[-1]
        draft = ev.Draft(id=event_id, at=self._now(), event=event)
        return self._queue.withdraw(trial.id, trial.attempt, draft, epoch=self._epoch)

    def resume(self, state: StudyState) -> None:
        """Finish what was begun and the ledger does not show: the controller was killed, say.

        Raises NoRoom while there is none, as all here that writes to git.
        """
        self._repository.check_room()
        self._rebasing.resume(state)

    def files_at(self, commit: CommitId) -> Mapping[str, str]:
        """Return the text of all editable files at a commit."""
        return self._repository.read_files(commit, self._editable)

    # --- candidates ------------------------------------------------------------------------------

    def propose(
        self,
        state: StudyState,
        author: str,
        proposal: Proposal,
        context: Context,
        *,
        task: str = "",
        is_held: bool = False,
    ) -> None:
        """Make an experiment of a proposal, or record why not.

        One of a recorded answer of which an experiment was made before a crash is left out.
        """
        part = proposal.origin
        if part and any(known.origin == part for known in state.experiments.values()):
            return
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
            category=proposal.category,
            expected_effect=proposal.expected_effect,
            part=part,
            task=task,
            hints=tuple(proposal.hints),
            is_held=is_held,
        )
        self._admission.enter(state, made, origin, {**context.files, **proposal.edits})

    def task(self, state: StudyState, key: str) -> Task | None:
        """Return what a proposer has to know of a task; None if there is nothing to do any more."""
        found = tasks.subject(state, key)
        if found is None:
            return None
        kind, experiment = found
        outcomes = [trial.outcome for trial in experiment.trials if trial.outcome]
        told = [experiment.reason, outcomes[-1].tail if outcomes else ""]
        try:
            files = self.files_at(experiment.commit)
            before = self.files_at(experiment.base_commit)
        except (KeyError, ValueError):
            return None
        return Task(
            kind=kind,
            experiment=experiment.id,
            hypothesis=experiment.hypothesis,
            problem="\n".join(text for text in told if text),
            files=files,
            base_files=before,
        )

    def standing(self, tip: CommitId, state: StudyState) -> Standing:
        """Say what is to become of a commit that somebody put onto the branch; hand it in first."""
        return self._people.standing(tip, state)

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
        self._admission.admit(state, made, origin)

    @perform.register
    def _queue_trial(self, command: cmd.QueueTrial, _: StudyState) -> None:
        budget_s = self._budget_s if command.rung_s is None else command.rung_s
        spec = TrialSpec(
            trial=command.trial,
            experiment=command.experiment.id,
            attempt=command.attempt,
            commit=command.experiment.commit,
            seed=command.seed,
            budget_s=budget_s,
            # What a run takes beside its training it takes on a rung too.
            timeout_s=budget_s + self._timeout_s - self._budget_s,
            is_short=command.rung_s is not None,
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
    def _rung(self, command: cmd.RecordRung, _: StudyState) -> None:
        judged = command.judged
        outcome = "passed" if judged.goes_on else "stopped"
        self.record(f"{judged.experiment}/rung/{judged.rung_s:g}/{outcome}", judged)

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
        name = command.suspected.experiment
        finished = state.experiments[name].finished
        self.record(f"{name}/suspected/{finished}", command.suspected)

    @perform.register
    def _promote(self, command: cmd.Promote, state: StudyState) -> None:
        self._integration.promote(command, state)

    @perform.register
    def _merge(self, command: cmd.Merge, state: StudyState) -> None:
        self._integration.merge(command, state)

    @perform.register
    def _rebase(self, command: cmd.Rebase, state: StudyState) -> None:
        self._rebasing.rebase(command, state)

    @perform.register
    def _return(self, command: cmd.ReturnCandidate, _: StudyState) -> None:
        self._rebasing.give_back(command.candidate, command.reason)

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
        base = state.lineage[-1] if state.lineage else ExperimentId("e0")
        base_commit = base_of(state)
        proposal: Proposal | None = None
        made: Candidate | Rejected
        try:
            made, proposal = materialise(
                submission,
                state=state,
                repository=self._repository,
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
            proposer=PERSON,
            hypothesis=submission.hypothesis,
            priority=submission.priority,
            parameters=proposal.parameters if proposal else {},
            submission=submission.submission,
            reverts=submission.reverts,
        )
        self._admission.enter(state, made, origin)

    @perform.register
    def _quarantine(self, command: cmd.QuarantineNode, _: StudyState) -> None:
        event = command.quarantined
        # First: nothing begins there any more once it is told, least of all what runs again.
        self._queue.set_node_mode(event.node, QueueMode.HELD, epoch=self._epoch)
        self.record(f"node/{event.node}/quarantined/{command.cause}", event)

    @perform.register
    def _finish(self, command: cmd.FinishStudy, _: StudyState) -> None:
        event = ev.StudyFinished(reason=command.reason, failed=command.failed)
        self.record(f"finished/{self._epoch}", event)
