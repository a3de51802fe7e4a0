"""Facts of candidates that had not begun when the incumbent moved. See cluster.policy.staleness."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.state.event import Event
from proposer.proposal import Scalar
from trainer.trial import CommitId, ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRebased(Event):
    """A candidate that had not begun was merged onto the incumbent, and is run on that base."""

    experiment: ExperimentId
    commit: CommitId
    """What it is from now on; its parents are the incumbent and the commit that it was."""
    tree: str
    lines: int
    base: ExperimentId
    """The incumbent."""
    base_commit: CommitId
    from_base: ExperimentId
    """Its base before."""
    from_commit: CommitId
    """What it was before."""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    """Values that constants have in the new tree, of those that the proposal named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebaseConflicted(Event):
    """A person's candidate and the incumbent touch the same lines: it is run on its own base."""

    experiment: ExperimentId
    onto: ExperimentId
    """The incumbent."""
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentReturned(Event):
    """A candidate that had not begun is no use on the incumbent; its proposer is told."""

    experiment: ExperimentId
    reason: str
