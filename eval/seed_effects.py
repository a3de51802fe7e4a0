"""How much of the noise a seed brings to every tree that is run with it, and what follows. Pure.

All first runs of a study have one seed, its repeats another. Where a seed is good or bad for any
tree (an easy order of the data, a lucky start), runs of one seed differ by less than the noise
says, and runs of different seeds by more. The model is that of random effects,

    score = tree + seed + rest,

with trees as they are and seeds drawn at random (Searle, Casella and McCulloch, Variance
Components, 1992): the share of the seeds in the variance by the restricted likelihood, in which
trees cancel out. It is the posterior's median with half of the prior on none, so that it is exactly
none while little speaks for any (Johnstone and Silverman, 2004).

What each seed brings is not estimated. Trees are run again because their first run was good, so the
first seed would look good wherever nothing but luck was, and repeats, put as if they had had it,
would say once more what luck had said.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from eval.noise import without_outlier
from eval.score import Score
from eval.small_matrix import Matrix, factor, log_determinant, solve

MOST_SEEDS = 8
"""Those that most trees were run with; the others hardly tell of what trees share."""
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Of the variance, what seeds may bring, each as likely as the next."""
ENOUGH = 4
"""Degrees of freedom that are needed beside those that the seeds take."""

Runs = Sequence[tuple[int, float]]
"""Seed and value of each run of one tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the runs of one tree say of it."""

    mean: float
    """Its score with the first seed."""
    runs: float
    """So many runs on the first seed would say as much."""

    @classmethod
    def of(cls, score: Score) -> Self:
        """Return what a score says where nothing is known of seeds."""
        return cls(mean=score.mean, runs=score.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedEffects:
    """What is known of the seeds of a study on one device class."""

    share: float
    """Of a run's variance, what its seed brings."""
    sigma: float
    """Standard deviation of what is left, in the metric's unit, above zero."""
    first: int
    """The seed that the first runs have, which all are compared by."""

    def measured(self, score: Score) -> Measured:
        """Return what a score says of its tree; the runs weighed by generalised least squares."""
        weights = solve(factor(self._covariances(score.seeds)), [1.0] * score.n)
        total = sum(weights)
        mean = sum(map(math.prod, zip(weights, score.values, strict=True))) / total
        return Measured(mean=mean, runs=total * self.sigma**2)

    def _covariances(self, seeds: Sequence[int]) -> Matrix:
        """Return those of runs on some seeds, as they are compared with runs on the first."""
        of_seed = self.sigma**2 * self.share / (1 - self.share)

        def shared(a: int, b: int) -> float:
            return 0.0 if self.first in {a, b} else of_seed * (1 + (a == b))

        return [
            [(self.sigma**2 if i == j else 0.0) + shared(a, b) for j, b in enumerate(seeds)]
            for i, a in enumerate(seeds)
        ]


def seed_effects(trees: Iterable[Runs], first: int) -> SeedEffects | None:
    """Estimate what seeds share, from trees that were run on several; None for nothing.

    Args:
        trees: the runs of each on one device class.
        first: the seed of first runs.
    """
    counted = _comparable(without_outlier(list(trees), lambda runs: [value for _, value in runs]))
    dof = sum(len(runs) - 1 for runs in counted)
    seeds = sorted({seed for runs in counted for seed, _ in runs})
    if dof - (len(seeds) - 1) < ENOUGH:
        return None
    sums = _sums(counted, seeds)
    fits = [_fit(*sums, share / (1 - share)) for share in (0.0, *SHARES)]
    if not all(0 < fit.rest < math.inf for fit in fits):
        return None  # runs repeat exactly, or no squares can be had of them
    chosen = _median([fit.log_likelihood(dof) for fit in fits])
    if not chosen:
        return None
    sigma = math.sqrt(fits[chosen].rest / dof)
    return SeedEffects(share=SHARES[chosen - 1], sigma=sigma, first=first)


def _comparable(trees: Iterable[Runs]) -> list[Runs]:
    """Return the runs on seeds that other trees had too, of trees that have several such."""
    known = list(trees)
    count = Counter(seed for runs in known for seed in {seed for seed, _ in runs})
    shared = {seed for seed, trees in count.most_common(MOST_SEEDS) if trees > 1}
    kept = ([run for run in runs if run[0] in shared] for runs in known)
    return [runs for runs in kept if len(runs) > 1]


def _sums(trees: Sequence[Runs], seeds: Sequence[int]) -> tuple[Matrix, list[float], float]:
    """Return the normal equations of the seeds once trees are swept out, and all squares."""
    place = {seed: index for index, seed in enumerate(seeds)}
    design: Matrix = [[0.0] * len(seeds) for _ in seeds]
    right, squares = [0.0] * len(seeds), 0.0
    for runs in trees:
        n = len(runs)
        mean = math.fsum(value for _, value in runs) / n
        for seed, value in runs:
            row = place[seed]
            right[row] += value - mean
            squares += (value - mean) ** 2
            design[row][row] += 1.0
            for other, _ in runs:
                design[row][place[other]] -= 1 / n
    return design, right, squares


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """The model with one ratio of the seeds' variance to the rest's."""

    lower: Matrix
    rest: float
    """What is left of all squares, in units of the variance of the rest."""

    def log_likelihood(self, dof: int) -> float:
        """Return the restricted one, over all scales (prior density 1 / variance)."""
        return -0.5 * (log_determinant(self.lower) + dof * math.log(self.rest))


def _fit(design: Matrix, right: list[float], squares: float, ratio: float) -> _Fit:
    lower = factor(
        [
            [float(i == j) + ratio * value for j, value in enumerate(row)]
            for i, row in enumerate(design)
        ]
    )
    means = solve(lower, right)
    explained = ratio * sum(map(math.prod, zip(right, means, strict=True)))
    return _Fit(lower=lower, rest=squares - explained)


def _median(logs: Sequence[float]) -> int:
    """Return the median's place among no share, with half of the prior, and SHARES."""
    top = max(logs)
    none, *some = (math.exp(log - top) for log in logs)
    odds = [none * len(some), *some]
    half = sum(odds) / 2
    return next(place for place, below in enumerate(accumulate(odds)) if below >= half)
