"""Brings candidates that have not begun onto the incumbent: git, then queue and ledger, then refs.

The new commit is made first, and nothing knows of it. Then the waiting trial leaves the queue in
one step with the event that names the commit; a slot that was faster has begun the old tree, and
nothing has changed. The candidate's ref follows last: a controller that is killed before, or whose
epoch is over, leaves it at the commit that the candidate was, and `resume` moves it on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cluster.controller.admission import Admission, twin_of
from cluster.controller.merging import Merging
from cluster.git.code_outcomes import Candidate, Conflict, Redundant
from cluster.git.study_repository import StudyRepository
from cluster.policy import commands as cmd
from cluster.policy.staleness import PERSON
from cluster.state import events as ev
from cluster.state.experiment import Experiment
from cluster.state.state import StudyState
from proposer.constants import merged_values
from proposer.proposal import Scalar
from trainer.trial import CommitId


class Tell(Protocol):
    """Records what came of a candidate, in one step with its trial's leaving the queue."""

    def __call__(self, candidate: Experiment, event_id: str, event: ev.Event) -> bool:
        """Return False, with nothing changed, if a slot has begun it."""
        ...


class Rebasing:
    """Rebases candidates, or returns them. Each method may be run again after a crash."""

    def __init__(
        self,
        *,
        repository: StudyRepository,
        merging: Merging,
        admission: Admission,
        editable: Sequence[str],
        tell: Tell,
        record: Callable[[str, ev.Event], None],
    ) -> None:
        self._repository = repository
        self._merging = merging
        self._admission = admission
        self._editable = tuple(editable)
        self._tell = tell
        self._record = record

    def resume(self, state: StudyState) -> None:
        """Let the refs name what candidates are by the ledger."""
        # All, for a ledger that has lost its latest events calls others back to what they were.
        self._repository.move_refs({e.id: e.commit for e in state.experiments.values()})

    def give_back(self, candidate: Experiment, reason: str) -> None:
        """Return a candidate to its proposer."""
        event = ev.ExperimentReturned(experiment=candidate.id, reason=reason)
        self._tell(candidate, f"{candidate.id}/returned", event)

    def rebase(self, command: cmd.Rebase, state: StudyState) -> None:
        """Merge a candidate onto the incumbent, or say what keeps it from that."""
        candidate, incumbent = command.candidate, command.incumbent
        made = self._merging.merge(
            candidate,
            onto=state.incumbent_commit,
            message=f"Rebase {candidate.id} onto {incumbent.id}: {candidate.hypothesis}",
        )
        if isinstance(made, Conflict):
            self._conflicted(candidate, incumbent, made.paths)
        elif isinstance(made, Redundant):
            self.give_back(candidate, f"stale: what it changes is in {incumbent.id} already")
        elif (twin := twin_of(state, made.tree, candidate.reverts)) not in {"", candidate.id}:
            self.give_back(candidate, f"stale: on {incumbent.id} it is the same tree as {twin}")
        else:
            self._move(candidate, incumbent, made, state.incumbent_commit)

    def _conflicted(
        self, candidate: Experiment, incumbent: Experiment, paths: tuple[str, ...]
    ) -> None:
        if candidate.proposer != PERSON:
            where = ", ".join(paths)
            self.give_back(candidate, f"stale: conflicts with {incumbent.id} in {where}")
            return
        event = ev.RebaseConflicted(experiment=candidate.id, onto=incumbent.id, paths=paths)
        self._record(f"{candidate.id}/beside/{incumbent.id}", event)

    def _move(
        self, candidate: Experiment, incumbent: Experiment, made: Candidate, onto: CommitId
    ) -> None:
        event = ev.ExperimentRebased(
            experiment=candidate.id,
            commit=made.commit,
            tree=made.tree,
            lines=made.lines,
            base=incumbent.id,
            base_commit=onto,
            from_base=candidate.base,
            from_commit=candidate.commit,
            parameters=self._parameters(candidate, onto),
        )
        problem = self._admission.problem(onto, made.commit)
        if not self._tell(candidate, f"{candidate.id}/rebased/{onto}", event):
            return
        if problem:
            reason = f"{problem} (rebased onto {incumbent.id})"
            rejected = ev.ExperimentRejected(experiment=candidate.id, reason=reason)
            self._record(f"{candidate.id}/rejected", rejected)
        self._repository.move_refs({candidate.id: made.commit})

    def _parameters(self, candidate: Experiment, onto: CommitId) -> Mapping[str, Scalar]:
        """Return what the constants are that the proposal named; none if that cannot be read."""
        if not candidate.parameters:
            return {}
        try:
            before = self._repository.read_files(candidate.base_commit, self._editable)
            after = self._repository.read_files(onto, self._editable)
            return merged_values(candidate.parameters, before, after)
        except (KeyError, ValueError):
            return {}
