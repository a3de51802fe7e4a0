"""Turns what a user handed in (patch, branch, commit, settings, revert) into a candidate."""

from collections.abc import Sequence
from pathlib import Path

from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.study_repository import NOTHING, StudyRepository
from cluster.policy.reverts import NotOnBranch, to_undo
from cluster.state.events import SubmissionReceived
from cluster.state.state import StudyState
from proposer.proposal import Proposal
from proposer.submission import apply_settings
from trainer.trial import CommitId


def base_of(state: StudyState) -> CommitId:
    """Return what submissions are made on: the best there is."""
    return state.incumbent_commit or state.base_commit


def materialise(
    submission: SubmissionReceived,
    *,
    state: StudyState,
    repository: StudyRepository,
    source: Path,
    editable: Sequence[str],
) -> tuple[Candidate | Rejected, Proposal | None]:
    """Return the candidate on `base_of(state)`, or why there is none; and what settings propose.

    `source` is the user's repository, from which a branch is fetched.
    """
    base, message = base_of(state), submission.hypothesis
    if submission.patch:
        made = repository.commit_patch(
            base=base, patch=submission.patch, editable=editable, message=message, author="user"
        )
        return made, None
    if submission.branch:
        branch = repository.import_branch(
            source,
            submission.branch,
            tip=submission.tip,
            base=base,
            editable=editable,
            message=message,
            author="user",
        )
        return branch, None
    if submission.commit:
        own = repository.import_commit(
            submission.commit,
            f"commit {submission.commit[:10]}",
            base=base,
            editable=editable,
            message=message,
            author="user",
        )
        return own, None
    if submission.reverts:
        return _revert(submission, state, repository, editable), None
    try:
        files = repository.read_files(base, editable)
        proposal = apply_settings(files, submission.settings)
    except ValueError as error:
        return Rejected(reason=str(error)), None
    edited = repository.commit_edits(
        base=base, edits=proposal.edits, editable=editable, message=message, author="user"
    )
    return edited, proposal


def _revert(
    submission: SubmissionReceived,
    state: StudyState,
    repository: StudyRepository,
    editable: Sequence[str],
) -> Candidate | Rejected:
    name, base = submission.reverts, base_of(state)
    try:
        source = to_undo(state, name)
    except NotOnBranch as refusal:
        return Rejected(reason=str(refusal))
    # What it was made on, and not what was the head before: a tree that superseded another lacks
    # what that one brought, and that is not to come back.
    undone = repository.undo(source.promoted, source.base_commit)
    made = repository.import_commit(
        undone,
        f"taking {name} out",
        base=base,
        editable=editable,
        message=submission.hypothesis,
        author="user",
    )
    if made == Rejected(reason=NOTHING):
        return Rejected(reason=f"nothing of {name} is left at {base[:10]}")
    return made
