"""What becomes of code in a study's repository: candidates, refusals, promotions. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from trainer.trial import CommitId, ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A commit that may be run."""

    commit: CommitId
    tree: str
    lines: int
    """Lines of all editable files together."""
    changed: tuple[str, ...]
    """Paths that differ from the base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A change that cannot become a candidate; nothing was spent on it."""

    reason: str
    """One line for people; names the path where there is one."""
    is_stale: bool = False
    """It was made on other lines than its base has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two changes that cannot be merged."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redundant:
    """A merge that adds nothing to the incumbent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A commit that is to come onto the branch."""

    experiment: ExperimentId
    tree: str
    """Exactly what was measured."""
    subject: str
    trailers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBranch:
    """A commit of the best-so-far branch, above the base."""

    commit: CommitId
    tree: str
    upon: CommitId
    """What it came upon: its parent, or below that the last of which the ledger then knew."""
    subject: str
    at: datetime
    trailers: Mapping[str, str]

    @property
    def experiment(self) -> ExperimentId:
        """What it promotes; empty for a commit of somebody else."""
        return ExperimentId(self.trailers.get("Experiment", ""))


class BranchMoved(RuntimeError):
    """The branch was not where the promotion expected it; nothing was changed."""

    def __init__(self, actual: CommitId | None) -> None:
        self.actual = actual
        """Where the branch is; None if there is none."""
        super().__init__(f"the branch moved: it is at {actual or 'no commit'}")
