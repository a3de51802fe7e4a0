"""Brings an experiment's patch onto another commit: by git, else its constants by value.

Git takes changes of neighbouring lines for a conflict, and that is where hyper-parameters stand.
Knows which experiments' commits bring their own patch and nothing else. Does not know why they are
merged: `cluster.controller.rebasing` and `cluster.controller.integration` do.
"""

from collections.abc import Mapping, Sequence

from cluster.git.code_outcomes import Candidate, Conflict, Redundant
from cluster.git.study_repository import NOTHING, StudyRepository
from cluster.state.experiment import Experiment
from proposer.constants import merged_constants
from trainer.trial import CommitId


class Merging:
    """Merges commits of experiments. What it makes is kept by whoever asked for it."""

    def __init__(self, *, repository: StudyRepository, editable: Sequence[str]) -> None:
        self._repository = repository
        self._editable = tuple(editable)

    def merge(
        self, experiment: Experiment, *, onto: CommitId, message: str
    ) -> Candidate | Conflict | Redundant:
        """Make a candidate of `onto` and what an experiment's commit brings, which are its parents.

        Constants are merged by value where git finds a conflict. Raises GitError.
        """
        made = self._repository.merge(
            incumbent=onto, winner=experiment.commit, message=message, editable=self._editable
        )
        texts = self._by_value(experiment, onto) if isinstance(made, Conflict) else None
        if texts is None:
            return made
        edited = self._repository.commit_edits(
            base=onto,
            edits=texts,
            editable=self._editable,
            message=message,
            author="Incumbent",
            beside=(experiment.commit,),
        )
        if isinstance(edited, Candidate):
            return edited
        return Redundant() if edited.reason == NOTHING else made

    def merges(self, experiment: Experiment, onto: CommitId) -> bool:
        """Say whether `merge` would find no conflict between the two."""
        is_clean = self._repository.merges(onto, experiment.commit)
        return is_clean or self._by_value(experiment, onto) is not None

    def _by_value(self, experiment: Experiment, onto: CommitId) -> Mapping[str, str] | None:
        """Return all editable files with both changes; None where that is not to be had."""
        is_upon_others = experiment.chain and experiment.id != experiment.chain
        if is_upon_others or experiment.reverts:
            return None
        base, commit, repository = experiment.base_commit, experiment.commit, self._repository
        if repository.problem_between(base, commit, self._editable):
            return None  # it brings more than texts tell
        try:
            before, ours, theirs = (
                repository.read_files(tree, self._editable) for tree in (base, onto, commit)
            )
            return merged_constants(before, ours, theirs, experiment.parameters)
        except (KeyError, ValueError):
            return None
