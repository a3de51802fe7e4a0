"""Many courses of one policy, as means with confidence intervals. Pure."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from cluster.simulation.course import Course
from cluster.simulation.setup import Step

GRID_S = 60.0
"""How finely curves over time are looked at."""
_Z = 1.959964
"""Of the normal distribution, what 95 % lie within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over seeds and what it lies within with a confidence of 95 %."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Estimate from one value a seed, by Student's t; a single value has no interval."""
        mean = fmean(values)
        n = len(values)
        half = _t(n - 1) * stdev(values) / math.sqrt(n) if n > 1 else 0.0
        return cls(mean=mean, low=mean - half, high=mean + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times sooner the reference's final improvement was reached, and that per slot."""

    mean: float | None
    """None where it was not reached within the hours."""
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a policy came to, over seeds; improvements in the metric's unit."""

    true: Estimate
    claimed: Estimate
    gap: Estimate
    """What is claimed beyond what is true."""
    experiments: Estimate
    promotions: Estimate
    false_percent: float
    """Of all promotions, those to something that was no better."""
    missed_percent: float
    """Of candidates that improved on their base by more than the noise, those not kept."""
    stopped_percent: float
    """Of the same, those that were stopped on a rung."""
    replicates_percent: float
    """Of the time on slots."""
    merges_percent: float
    speedup: Speedup
    """Against one greedy slot."""


def summarise(courses: Sequence[Course], reference: Sequence[Course], hours: float) -> Summary:
    """Summarise one policy's courses; `reference` are those of one greedy slot."""
    spent = sum(course.time.total for course in courses)
    return Summary(
        true=Estimate.of([course.true for course in courses]),
        claimed=Estimate.of([course.claimed for course in courses]),
        gap=Estimate.of([course.claimed - course.true for course in courses]),
        experiments=Estimate.of([course.experiments for course in courses]),
        promotions=Estimate.of([course.promotions for course in courses]),
        false_percent=_percent(
            sum(course.false_promotions for course in courses),
            sum(course.promotions for course in courses),
        ),
        missed_percent=_percent(
            sum(course.passed_over for course in courses),
            sum(course.improving for course in courses),
        ),
        stopped_percent=_percent(
            sum(course.stopped for course in courses),
            sum(course.improving for course in courses),
        ),
        replicates_percent=_percent(sum(course.time.replicates for course in courses), spent),
        merges_percent=_percent(sum(course.time.merges for course in courses), spent),
        speedup=speedup(courses, fmean(course.true for course in reference), hours),
    )


def curve(
    courses: Sequence[Course],
    at: Sequence[float],
    value: Callable[[Step], float] = lambda step: step.true,
    along: Callable[[Step], float] = lambda step: step.at_s,
) -> list[Estimate]:
    """Return the mean best-so-far at some moments, over courses; 0 before the baseline's score."""
    rows = []
    for course in courses:
        moments = [along(step) for step in course.steps]
        values = [0.0, *(value(step) for step in course.steps)]
        rows.append([values[bisect_right(moments, moment)] for moment in at])
    return [Estimate.of(column) for column in zip(*rows, strict=True)]


def speedup(courses: Sequence[Course], target: float, hours: float) -> Speedup:
    """Return how many times sooner than in `hours` the mean curve reaches `target`.

    The interval is where the curve's own interval reaches it.
    """
    end_s = hours * 3600
    at = [GRID_S * step for step in range(1, int(end_s / GRID_S) + 1)]
    found = curve(courses, at)

    def reached(bound: Callable[[Estimate], float]) -> float | None:
        for moment, estimate in zip(at, found, strict=True):
            if bound(estimate) >= target:
                return end_s / moment
        return None

    return Speedup(
        mean=reached(lambda estimate: estimate.mean),
        low=reached(lambda estimate: estimate.low),
        high=reached(lambda estimate: estimate.high),
    )


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def _t(dof: int) -> float:
    """Return Student's t for 95 %, by the expansion of Cornish and Fisher (within 2 % from 3)."""
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / dof + second / dof**2 + third / dof**3
