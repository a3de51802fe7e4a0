"""What a judge believes, and what it remembers from one verdict to the next. Plain data.

A study's ledger holds all of it, in the verdicts, so that a replay ends with the same beliefs
whatever a later version of a judge would have made of the same runs.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """A normal distribution: of a tree's true score, or of a patch's true effect."""

    mean: float
    variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCounts:
    """What the verdicts of a study said of patches so far; see eval.patch_prior."""

    counts: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Discounted sums of the probabilities of gain, nothing, small harm, large harm."""
    totals: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Discounted sums of the sizes of gains, small and large harms, times their probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a judge carries from one verdict to the next."""

    patches: PatchCounts | None = None
    """Kept by `bayes`; None before its first verdict."""
    conceded: float = 0.0
    """Expected loss by what was kept for being shorter, not made up for since; `bayes`."""
    tested: int = 0
    """Candidates that went into a test with fresh runs; `sequential`."""
    passed: int = 0
    """How many of those passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a verdict taught; the next ones build on it."""

    candidate: Belief | None = None
    """True score of the candidate's tree."""
    reference: Belief | None = None
    """True score of the tree that it was judged against: each verdict measures that too."""
    effect: Belief | None = None
    """The patch's true improvement over its reference; positive is better."""
    chance: float | None = None
    """Probability that it is better than its reference."""
    level: float = 0.0
    """Probability of error at which its test may pass; fixed when the test begins."""
    memory: Memory = field(default_factory=Memory)
