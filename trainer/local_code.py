"""The study's repository where it is on this machine."""

from pathlib import Path

from trainer.git_command import GitCommand, GitError
from trainer.ports import CodeAway
from trainer.trial import CommitId, ExperimentId

_EXPERIMENTS = "--format=%(trailers:key=Experiment,valueonly,separator=%x0A)"


class LocalCode:
    """trainer.ports.CodeSource on the node that holds the study's repository."""

    def __init__(self, repository: Path, base: CommitId) -> None:
        """Serve a study that began at `base`: what was promoted came after it."""
        self._repository = repository
        self._base = base

    def fetch(
        self,
        commit: CommitId,  # noqa: ARG002 - every commit is there
        *,
        is_ahead: bool = False,  # noqa: ARG002
    ) -> Path:
        """See CodeSource."""
        return self._repository

    def lack(self) -> str:
        """See CodeSource."""
        return ""

    def promoted(self) -> frozenset[ExperimentId]:
        """See CodeSource."""
        git = GitCommand(self._repository)
        try:
            told = git.text("log", _EXPERIMENTS, "--branches=incumbent/*", "--not", self._base)
        except GitError as error:
            raise CodeAway(str(error)) from error
        return frozenset(ExperimentId(line) for line in told.splitlines() if line)
