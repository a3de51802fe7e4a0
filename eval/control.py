"""Whether a run of a tree that is known shows that its slot has shifted. Pure.

A control chart for single runs (Shewhart, 1931): a run of what was measured before ought to lie
where the next run of it is expected, within three standard deviations; one in 370 honest ones does
not. The expectation is itself estimated, and so is the noise: the first adds to the variance (the
prediction interval of one further observation, Hahn 1969), the second makes tails heavier
(Student's t, made normal by Wallace's transform, 1959, within 0.02 from three degrees of freedom).
"""

import math
from dataclasses import dataclass

from eval.beliefs import Belief
from eval.judge import Evidence
from eval.metric import Metric
from eval.noise import Noise

BEYOND = 3.0
"""Standard deviations: Shewhart's limits."""

_ENDLESS = 1e9
"""For infinity, which JSON does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a control said."""

    shift: float
    """By how much better it scored than expected, in the metric's unit; negative is worse."""
    surprise: float
    """The same in standard deviations of what was to be expected; 0 where nothing is known."""
    belief: Belief | None = None
    """Of its tree's true score, with the control; None for a tree that none is held of."""

    @property
    def is_shifted(self) -> bool:
        """Say whether noise does not explain it."""
        return abs(self.surprise) > BEYOND


def read(value: float, known: Evidence | None, noise: Noise, metric: Metric) -> Reading:
    """Compare a control with what is known of its tree on the same device class.

    Args:
        value: what the control scored.
        known: its tree, without the control; None if it was never measured there.
        noise: of single runs there.
        metric: what is measured.
    """
    if known is None:
        return Reading(shift=0.0, surprise=0.0)
    square = noise.sigma**2
    expected = known.belief or Belief(mean=known.score.mean, variance=square / known.score.n)
    shift = metric.improvement(value, expected.mean)
    variance = square + expected.variance
    belief = None
    if known.belief is not None and variance > 0:
        gain = expected.variance / variance  # the Kalman filter's, for a constant
        belief = Belief(
            mean=expected.mean + gain * (value - expected.mean),
            variance=expected.variance * (1 - gain),
        )
    return Reading(
        shift=shift, surprise=_surprise(shift, math.sqrt(variance), noise), belief=belief
    )


def _surprise(shift: float, sd: float, noise: Noise) -> float:
    if not noise.is_known or not shift:
        return 0.0
    if not sd:  # runs repeat exactly
        return math.copysign(_ENDLESS, shift)
    dof, ratio = noise.dof, shift / sd
    normal = (8 * dof + 1) / (8 * dof + 3) * math.sqrt(dof * math.log1p(ratio**2 / dof))
    return math.copysign(normal, shift)
