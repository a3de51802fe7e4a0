"""What patches do to a score: the prior of their effects, learnt from a study's own verdicts. Pure.

An effect is an improvement, positive is better, in the metric's unit. A patch gains (exponential),
changes nothing, or harms, a little or much (exponential, both). The observed effect is the true one
plus normal noise, so that each component is a normal or an exponentially modified normal
distribution. How much of each there is, and how large, is empirical Bayes (Robbins, 1956): the
verdicts of the study are counted by their responsibilities, on top of what is assumed at the start.
"""

import math
from dataclasses import dataclass, replace

from eval.assumptions import AS_SIMULATED, Assumptions
from eval.beliefs import Belief, PatchCounts
from eval.normal import inverse_mills, log_cdf, log_inverse_mills

_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What is believed of one patch's effect after it was measured."""

    effect: Belief
    chance: float
    """Probability that it is a gain."""
    chance_harm: float
    """Probability that it does harm."""
    shares: tuple[float, float, float, float]
    """Probability of gain, nothing, small harm, large harm."""
    sizes: tuple[float, float, float]
    """Expected size of the effect if it is a gain, a small harm, a large harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPrior:
    """The prior: what is assumed at the start, and what was counted since."""

    seen: PatchCounts
    unit: float
    """Standard deviation of a single run, as it is known now, in the metric's unit."""
    assumed: Assumptions = AS_SIMULATED

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares of gain, nothing, small harm, large harm."""
        worth = self.assumed.weights_count
        total = worth + sum(self.seen.counts)
        return tuple(
            (worth * start + count) / total
            for start, count in zip(self.assumed.weights, self.seen.counts, strict=True)
        )

    @property
    def sizes(self) -> tuple[float, ...]:
        """Mean sizes of gains, small harms and large harms, in the metric's unit."""
        counts = (self.seen.counts[0], *self.seen.counts[2:])
        return tuple(
            (worth * start * self.unit + total) / (worth + count)
            for worth, start, total, count in zip(
                self.assumed.sizes_count,
                self.assumed.sizes,
                self.seen.totals,
                counts,
                strict=True,
            )
        )

    def opinion(self, observed: float, sd: float) -> Opinion:
        """Return what to believe of an effect that was observed with a normal error.

        Args:
            observed: the measured improvement, in the metric's unit.
            sd: standard deviation of its error, above zero.
        """
        gain, small, large = self.sizes
        parts = (
            _exponential(observed, sd, gain),
            (-0.5 * (observed / sd) ** 2 - math.log(sd) - _LOG_ROOT_TWO_PI, 0.0, 0.0),
            _exponential(-observed, sd, small),
            _exponential(-observed, sd, large),
        )
        logs = [
            math.log(weight) + part[0] for weight, part in zip(self.weights, parts, strict=True)
        ]
        top = max(logs)
        odds = [math.exp(log - top) for log in logs]
        total = sum(odds)
        a, b, c, d = (each / total for each in odds)
        mean = a * parts[0][1] - c * parts[2][1] - d * parts[3][1]
        square = sum(
            share * (spread + size * size)
            for share, (_, size, spread) in zip((a, b, c, d), parts, strict=True)
        )
        return Opinion(
            effect=Belief(mean=mean, variance=max(0.0, square - mean * mean)),
            chance=a,
            chance_harm=c + d,
            shares=(a, b, c, d),
            sizes=(parts[0][1], parts[2][1], parts[3][1]),
        )

    def learn(self, opinion: Opinion) -> PatchCounts:
        """Return the counts after one more verdict."""
        memory = self.assumed.memory
        a, b, c, d = (
            memory * count + share
            for count, share in zip(self.seen.counts, opinion.shares, strict=True)
        )
        gain, _, small, large = opinion.shares
        x, y, z = (
            memory * total + share * size
            for total, share, size in zip(
                self.seen.totals, (gain, small, large), opinion.sizes, strict=True
            )
        )
        return replace(self.seen, counts=(a, b, c, d), totals=(x, y, z))


def _exponential(observed: float, sd: float, mean: float) -> tuple[float, float, float]:
    """Return log density, posterior mean and variance of an exponential size seen with an error.

    With a = observed / sd - sd / mean and L = phi(a) / Phi(a), the density of the exponentially
    modified normal is exp(sd^2 / (2 mean^2) - observed / mean) Phi(a) / mean; the posterior is a
    normal cut off at zero, with mean sd (a + L) and variance sd^2 (1 - L (L + a)). For negative a
    the density is written with L instead of Phi, where the two large exponents cancel.
    """
    a = observed / sd - sd / mean
    if a > 0:
        log = 0.5 * (sd / mean) ** 2 - observed / mean + log_cdf(a)
    else:
        log = -0.5 * (observed / sd) ** 2 - _LOG_ROOT_TWO_PI - log_inverse_mills(a)
    mills = inverse_mills(a)
    beyond = mills + a
    return (
        log - math.log(mean),
        max(0.0, sd * beyond),
        max(0.0, sd * sd * (1 - mills * beyond)),
    )
