"""When a running trial is given up for being hopeless. Pure.

Knows curves and the bounds within which a pruner is asked at all. Which curves are hopeless is the
pruner's to say; which trials may be given up is cluster.policy.pruning's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from eval.curve import Curve

MOST_COMPARED = 100
"""Finished trials that others are held against, the latest: the best so far moves on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A trial that was run to its end, to hold others against."""

    curve: Curve
    value: float
    """The metric."""


class Pruner(Protocol):
    """Compares the curve of a running trial with those of finished ones.

    Deterministic: the same curves always get the same answer.
    """

    def is_hopeless(self, curve: Curve, finished: Sequence[Finished]) -> bool:
        """Say whether the trial is not worth its remaining time; `curve` is not empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningRule:
    """A pruner within its bounds."""

    pruner: Pruner
    number: str
    """What the curves show, as progress lines name it."""
    warmup: float
    """Share of the budget in which no trial is given up."""
    least: int
    """Finished trials that must have got as far, before any is given up."""
    looks_at_others: bool = True
    """Whether curves are held against those of finished trials at all."""

    def reason(self, curve: Curve, finished: Sequence[Finished]) -> str:
        """Return in words why a trial is given up; empty if it goes on."""
        if not curve.values or curve.percent < 100 * self.warmup:
            return ""
        if not self.looks_at_others:
            return self._flat(curve)
        reached = [other for other in finished if other.curve.percent >= curve.percent]
        if len(reached) < self.least or not self.pruner.is_hopeless(curve, reached):
            return ""
        middle = median(other.curve.until(curve.percent).last for other in reached)
        others = "1 finished trial" if len(reached) == 1 else f"{len(reached)} finished trials"
        return (
            f"hopeless: {self.number} {curve.last:.4g} at {curve.percent} % of the budget, where "
            f"{others} had a median of {middle:.4g}"
        )

    def _flat(self, curve: Curve) -> str:
        if not self.pruner.is_hopeless(curve, ()):
            return ""
        at = f"{self.number} {curve.last:.4g} at {curve.percent} % of the budget"
        return f"flat: {at}, which has not improved for a while"
