"""How much two runs of the same code differ. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import sqrt
from statistics import fmean
from typing import TypeVar

T = TypeVar("T")

OUTLYING = 16.0
"""One group is left out where its variance is so many times that of all others together: runs
whose noise is four times the usual. Of two honest runs, one pair in 16,000 differs so much."""
EXACT = 8
"""Degrees of freedom from which runs that all repeat exactly are taken to do so always."""
FINE = 6
"""Significant digits from which fewer repeats suffice. A metric of three repeats by chance: at a
noise of 0.6 of the last, the first three runs do in a quarter of all studies."""
ENOUGH = 4
"""Degrees of freedom that the others need before they can call one group an outlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviation of a single run, and how well it is known."""

    sigma: float = 0.0
    """In the metric's unit; 0 where `dof` is 0, and where runs repeat exactly."""
    dof: int = 0
    """Degrees of freedom: runs beyond the first of each tree. Its relative error is about
    1 / sqrt(2 dof)."""
    has_outlier: bool = False
    """One tree's runs were left out, as they differ far more than those of all others."""
    digits: int = 0
    """Significant digits of the values, at most, where all runs have repeated exactly."""

    @property
    def is_known(self) -> bool:
        """Say whether anything is known of it."""
        is_chance = self.sigma == 0 and self.dof < EXACT and self.digits < FINE
        return self.dof > 0 and not is_chance


def pooled_noise(groups: Iterable[Sequence[float]]) -> Noise:
    """Estimate the noise from runs of the same code, each group one tree on one device class.

    The pooled within-group variance. Robust to one outlier in the manner of Cochran's test (1941;
    ISO 5725-2): the group with the largest variance is left out if it is far beyond the others.
    """
    known = [group for group in groups if len(group) > 1]
    kept = without_outlier(known, lambda group: group)
    spreads = [_spread(group) for group in kept]
    dof = sum(n for _, n in spreads)
    if not dof:
        return Noise()
    squares = sum(square for square, _ in spreads)
    return Noise(
        sigma=sqrt(squares / dof),
        dof=dof,
        has_outlier=len(kept) < len(known),
        digits=0 if squares else max(_digits(group[0]) for group in kept),
    )


def _digits(value: float) -> int:
    """Return how many significant digits a number has, as it would be printed."""
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


def without_outlier(groups: Sequence[T], values: Callable[[T], Sequence[float]]) -> Sequence[T]:
    """Return the groups but the one whose variance is far beyond that of all others, if any is."""
    spreads = [_spread(values(group)) for group in groups]
    ratios = [square / n if n else 0.0 for square, n in spreads]
    if not any(ratios):
        return groups
    worst = ratios.index(max(ratios))
    others = [*spreads[:worst], *spreads[worst + 1 :]]
    rest, dof = sum(square for square, _ in others), sum(n for _, n in others)
    is_outlier = dof >= ENOUGH and ratios[worst] > OUTLYING * rest / dof > 0
    return [*groups[:worst], *groups[worst + 1 :]] if is_outlier else groups


def mean_of(values: Sequence[float]) -> float:
    """Return the arithmetic mean; that of equal values is that value, to the last digit."""
    return min(max(fmean(values), min(values)), max(values))


def _spread(group: Sequence[float]) -> tuple[float, int]:
    """Return the sum of squares about the mean, and its degrees of freedom."""
    mean = mean_of(group)
    return sum((value - mean) ** 2 for value in group), len(group) - 1
