"""Commits that people put onto the branch in their repository: how each becomes an experiment.

Knows what the study may take of them, and when the branch need not wait for one any more. Does not
know how the branch is looked at or moved: `cluster.git.mirror` does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.git.commit_message import one_line
from cluster.git.mirror import Standing, left_alone
from cluster.git.source_repository import SourceProblem
from cluster.git.study_repository import StudyRepository
from cluster.state.events import SubmissionReceived
from cluster.state.state import PersonCommit, StudyState
from trainer.trial import CommitId

PRIORITY = 1000
"""Before what is submitted otherwise: the branch waits."""
_STAYS = "it stays there until that is judged"
_WAITING = Standing(words=f"which become an experiment: {_STAYS}")


class PersonCommits:
    """Says what is to become of the commit that a person's branch is at.

    `record` appends an event under its id.
    """

    def __init__(
        self,
        *,
        repository: StudyRepository,
        source: Path,
        editable: Sequence[str],
        record: Callable[[str, SubmissionReceived], None],
    ) -> None:
        self._repository = repository
        self._source = source
        self._editable = editable
        self._record = record
        self._refused = (CommitId(""), "")

    def standing(self, tip: CommitId, state: StudyState) -> Standing:
        """Hand a commit in when it is first seen; say whether the branch has to wait for it.

        May be asked again at any time: what was recorded of a commit is in the ledger. Costs no
        process of git from the second time on. Raises GitError.
        """
        known = state.person_commits.get(tip)
        if known is not None:
            return _standing(known, tip, state)
        if self._refused[0] != tip:
            try:
                problem = self._take(tip, state)
            except SourceProblem as error:
                return self._refusal(str(error))  # to be tried again: it may be cured
            self._refused = (tip, problem) if problem else self._refused
            if not problem:
                return _WAITING
        return self._refusal(self._refused[1])

    def _refusal(self, problem: str) -> Standing:
        return left_alone(self._repository.branch_ref, problem)

    def _take(self, tip: CommitId, state: StudyState) -> str:
        """Record a commit as a submission; return why it cannot be one, if so."""
        self._repository.bring(self._source, tip)
        fork = self._fork(tip, state)
        if not fork:
            return "they follow nothing that the study has had on it"
        if problem := self._repository.problem_between(fork, tip, self._editable):
            return problem
        event = SubmissionReceived(
            submission=f"person-{tip[:12]}",
            hypothesis=self._hypothesis(fork, tip),
            priority=PRIORITY,
            commit=tip,
            in_full=True,
        )
        self._record(f"person/{tip}", event)
        return ""

    def _fork(self, tip: CommitId, state: StudyState) -> CommitId:
        """Return where a commit leaves the study's branch; empty if it begins elsewhere."""
        git = self._repository.git
        found = git.run("merge-base", self._repository.branch_ref, tip, check=False)
        fork = CommitId(found.stdout.decode().strip())
        # Below the study's base are commits as well, and none of them was ever its branch's head.
        question = ("merge-base", "--is-ancestor", state.base_commit, fork)
        return fork if fork and git.run(*question, check=False).status == 0 else CommitId("")

    def _hypothesis(self, fork: CommitId, tip: CommitId) -> str:
        style = ("-z", "--encoding=UTF-8", "--format=%s")
        shown = self._repository.git.run("log", *style, f"{fork}..{tip}")
        subjects = shown.stdout.decode("utf-8", "replace").removesuffix("\0").split("\0")
        subject = one_line(subjects[0]) or f"commit {tip[:10]}"
        return f"{subject} (the last of {len(subjects)} commits)" if subjects[1:] else subject


def _standing(known: PersonCommit, tip: CommitId, state: StudyState) -> Standing:
    if known.reason:
        return Standing(words=f"rejected: {known.reason}", keep_as=tip[:12])
    if not known.experiment:
        return _WAITING
    status = state.experiments[known.experiment].status
    words = f"{known.experiment} is {status.words}"
    if status.is_terminal:
        return Standing(words=words, keep_as=known.experiment)
    return Standing(words=f"measured as {known.experiment}: {_STAYS}")
