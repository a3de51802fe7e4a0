"""Facts of the branch: what the reducer merged, measured as one, promoted or dropped."""

from dataclasses import dataclass

from cluster.state.event import Event
from eval.beliefs import Belief
from trainer.trial import CommitId, ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainMeasured(Event):
    """Every link of a chain of merges came to its end; the verdicts stand before this."""

    chain: ExperimentId
    """The first link."""
    links: tuple[ExperimentId, ...]
    best: ExperimentId = ExperimentId("")
    """The link that is to be promoted, with all below it; empty if none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A commit that came onto the branch below the one that was promoted."""

    experiment: ExperimentId
    commit: CommitId


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(Event):
    """A winner's tree became the head of the branch."""

    experiment: ExperimentId
    commit: CommitId
    replaces: ExperimentId
    lacks: tuple[ExperimentId, ...] = ()
    """Promoted experiments whose patches its tree does not hold; they rejoin as candidates."""
    carried: tuple[Carried, ...] = ()
    """The links of its chain below it, each with a commit of its own, the first one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeConflicted(Event):
    """A stale winner's patch and one that is on the branch touch the same lines."""

    experiment: ExperimentId
    against: ExperimentId
    """The promoted experiment whose patch is in the way."""
    paths: tuple[str, ...]
    onto: CommitId = CommitId("")
    """The branch's head then, onto which both are wanted; empty in ledgers of earlier versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRedundant(Event):
    """A stale winner's patch is already in the incumbent."""

    experiment: ExperimentId
    against: ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerRequeued(Event):
    """A chain of merges ended without a winner's patch, which may still be worth merging."""

    experiment: ExperimentId
    link: ExperimentId
    """The merge that carried it."""
    reason: str
    effect: Belief | None = None
    """What the chain told of its patch's effect; null if nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerDropped(Event):
    """A stale winner was merged as often as is allowed, or its merge brought nothing."""

    experiment: ExperimentId
    reason: str
