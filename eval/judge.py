"""Verdicts: whether a candidate is better than what it is compared with.

Pure. A failed trial never reaches a judge: a failure is a status, not a number.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from eval.metric import Metric
from eval.score import Score


class Verdict(StrEnum):
    """What a judge says of a measured candidate."""

    KEEP = "keep"  # better than its reference: a winner
    DISCARD = "discard"  # not better
    REPLICATE = "replicate"  # not known yet: run another trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One side of a comparison: what a tree scored, and how long it is."""

    score: Score
    lines: int
    """Lines of all editable files together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its evidence."""

    verdict: Verdict
    delta: float
    """Improvement over the reference in the metric's unit; positive is better."""
    reason: str
    """One line for people."""


class Judge(Protocol):
    """Compares a candidate with a reference (the incumbent, or the base it was made from).

    Pure and deterministic: the same evidence always gets the same judgement.
    """

    def judge(self, candidate: Evidence, reference: Evidence) -> Judgement:
        """Return the judgement of `candidate` against `reference`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyJudge:
    """Plain autoresearch: any improvement is kept; equal and fewer lines is kept (simplicity).

    The rule of karpathy/autoresearch's program.md, with its simplicity criterion made mechanical.
    """

    metric: Metric
    simplicity: bool = True

    def judge(self, candidate: Evidence, reference: Evidence) -> Judgement:
        """Return KEEP for strictly better, or for equal and shorter; DISCARD otherwise."""
        delta = self.metric.improvement(candidate.score.mean, reference.score.mean)
        if delta > 0:
            return Judgement(verdict=Verdict.KEEP, delta=delta, reason="better")
        saved = reference.lines - candidate.lines
        if delta == 0 and self.simplicity and saved > 0:
            reason = f"equal, and {saved} line{'s' if saved > 1 else ''} shorter"
            return Judgement(verdict=Verdict.KEEP, delta=0.0, reason=reason)
        reason = "equal" if delta == 0 else "worse"
        return Judgement(verdict=Verdict.DISCARD, delta=delta, reason=reason)
