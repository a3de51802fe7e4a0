"""Verdicts: whether a candidate is better than what it is compared with.

Pure. A failed trial never reaches a judge: a failure is a status, not a number.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from eval.beliefs import Belief, Learnt, Memory
from eval.metric import Metric
from eval.noise import Noise
from eval.score import Score
from eval.seed_effects import Measured, SeedEffects


class Verdict(StrEnum):
    """What a judge says of a measured candidate."""

    KEEP = "keep"  # better than its reference: a winner
    DISCARD = "discard"  # not better
    REPLICATE = "replicate"  # not known yet: run another trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One side of a comparison: what a tree scored, how long it is, what is known of it besides."""

    score: Score
    lines: int
    """Lines of all editable files together."""
    belief: Belief | None = None
    """What verdicts so far say of its true score; None if they say nothing."""
    expected: Belief | None = None
    """For a merge: the effect that its patch had where it was first measured."""
    level: float = 0.0
    """See Learnt.level; 0 before its test began."""

    @property
    def worth(self) -> float:
        """What the tree is taken to score."""
        return self.belief.mean if self.belief else self.score.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstance:
    """What a judge may know of the study beside the two trees."""

    noise: Noise = field(default_factory=Noise)
    """Of single runs on the candidate's device class."""
    seeds: SeedEffects | None = None
    """How much seeds bring to runs there, where anything is known of it."""
    memory: Memory = field(default_factory=Memory)
    """What the judge remembers from its last verdict."""
    slots: int = 1
    """Slots that take work."""

    @property
    def sigma(self) -> float:
        """Noise of a run that is compared with others of its seed."""
        return self.seeds.sigma if self.seeds else self.noise.sigma

    def measured(self, score: Score) -> Measured:
        """Return what a score says of its tree, by what is known of seeds."""
        return self.seeds.measured(score) if self.seeds and score.seeds else Measured.of(score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its evidence."""

    verdict: Verdict
    delta: float
    """Improvement over the reference in the metric's unit; positive is better."""
    reason: str
    """One line for people."""
    learnt: Learnt | None = None
    """What the verdict taught; None if nothing that a later one would ask for."""


class Judge(Protocol):
    """Compares a candidate with a reference (the incumbent, or the base it was made from).

    Pure and deterministic: the same evidence always gets the same judgement. What it learns it
    hands back with its verdict, and is shown again with the next case.
    """

    def begin(self, baseline: Evidence, around: Circumstance) -> Judgement:
        """Return the judgement of the unmodified baseline: KEEP, or REPLICATE."""
        ...

    def judge(self, candidate: Evidence, reference: Evidence, around: Circumstance) -> Judgement:
        """Return the judgement of `candidate` against `reference`."""
        ...

    def is_ahead(self, candidate: Evidence, incumbent: Evidence) -> bool:
        """Say whether a winner is better than the incumbent, though made on another tree."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyJudge:
    """Plain autoresearch: any improvement is kept; equal and fewer lines is kept (simplicity).

    The rule of karpathy/autoresearch's program.md, with its simplicity criterion made mechanical.
    """

    metric: Metric
    simplicity: bool = True

    def begin(self, baseline: Evidence, around: Circumstance) -> Judgement:  # noqa: ARG002
        """Return KEEP: one run is all that it asks for."""
        return Judgement(verdict=Verdict.KEEP, delta=0.0, reason="baseline")

    def judge(
        self,
        candidate: Evidence,
        reference: Evidence,
        around: Circumstance,  # noqa: ARG002
    ) -> Judgement:
        """Return KEEP for strictly better, or for equal and shorter; DISCARD otherwise."""
        return self._compared(candidate, reference)

    def is_ahead(self, candidate: Evidence, incumbent: Evidence) -> bool:
        """Say whether it would be kept if it had been made on the incumbent."""
        return self._compared(candidate, incumbent).verdict is Verdict.KEEP

    def _compared(self, candidate: Evidence, reference: Evidence) -> Judgement:
        delta = self.metric.improvement(candidate.score.mean, reference.score.mean)
        if delta > 0:
            return Judgement(verdict=Verdict.KEEP, delta=delta, reason="better")
        saved = reference.lines - candidate.lines
        if delta == 0 and self.simplicity and saved > 0:
            reason = f"equal, and {saved} line{'s' if saved > 1 else ''} shorter"
            return Judgement(verdict=Verdict.KEEP, delta=0.0, reason=reason)
        reason = "equal" if delta == 0 else "worse"
        return Judgement(verdict=Verdict.DISCARD, delta=delta, reason=reason)
