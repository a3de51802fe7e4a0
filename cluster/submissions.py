"""Turns what a user handed in (a patch, a branch, or settings of constants) into a candidate."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.code_outcomes import Candidate, Rejected
from cluster.events import SubmissionReceived
from cluster.study_repository import StudyRepository
from proposer.proposal import Proposal
from proposer.submission import apply_settings
from trainer.trial import CommitId


def materialise(
    submission: SubmissionReceived,
    *,
    repository: StudyRepository,
    source: Path,
    base: CommitId,
    files: Mapping[str, str],
    editable: Sequence[str],
) -> tuple[Candidate | Rejected, Proposal | None]:
    """Return the candidate on `base`, or why there is none; and the proposal that settings make.

    `source` is the user's repository, from which a branch is fetched.
    """
    message = submission.hypothesis
    if submission.patch:
        made = repository.commit_patch(
            base=base, patch=submission.patch, editable=editable, message=message, author="user"
        )
        return made, None
    if submission.branch:
        branch = repository.import_branch(
            source, submission.branch, base=base, editable=editable, message=message, author="user"
        )
        return branch, None
    try:
        proposal = apply_settings(files, submission.settings)
    except ValueError as error:
        return Rejected(reason=str(error)), None
    edited = repository.commit_edits(
        base=base, edits=proposal.edits, editable=editable, message=message, author="user"
    )
    return edited, proposal
