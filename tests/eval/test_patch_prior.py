"""The mixture's closed forms, held to plain numerical integration."""

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from eval.beliefs import PatchCounts
from eval.patch_prior import PatchPrior

PRIOR = PatchPrior(seen=PatchCounts(), unit=1.0)


def by_integration(observed: float, sd: float) -> tuple[float, float, float]:
    """Return mean, variance and chance of a gain, from the prior's definition."""
    weights, (gain, small, large) = PRIOR.weights, PRIOR.sizes

    def seen(effect: float) -> float:
        z = (observed - effect) / sd
        return math.exp(-0.5 * z * z) / sd / math.sqrt(2 * math.pi)

    def moment(power: int, sign: int, size: float) -> float:
        def part(x: float) -> float:
            return (sign * x) ** power * math.exp(-x / size) / size * seen(sign * x)

        peak = max(0.0, sign * observed)
        ends = (0.0, max(0.0, peak - 8 * sd), peak + 8 * sd + 1e-9, peak + 60 * size + 60 * sd)
        return sum(quad(part, a, b, limit=200)[0] for a, b in pairwise(ends))

    def all_of(power: int) -> float:
        nothing = weights[1] * seen(0.0) if power == 0 else 0.0
        harms = weights[2] * moment(power, -1, small) + weights[3] * moment(power, -1, large)
        return weights[0] * moment(power, 1, gain) + nothing + harms

    total = all_of(0)
    mean = all_of(1) / total
    return mean, all_of(2) / total - mean**2, weights[0] * moment(0, 1, gain) / total


@pytest.mark.parametrize("sd", [0.05, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("observed", [-20.0, -3.0, -0.5, 0.0, 0.4, 2.0, 12.0])
def test_an_opinion_is_what_integration_says(observed: float, sd: float) -> None:
    mean, variance, chance = by_integration(observed, sd)
    opinion = PRIOR.opinion(observed, sd)
    assert opinion.effect.mean == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert opinion.effect.variance == pytest.approx(variance, rel=1e-4, abs=1e-6)
    assert opinion.chance == pytest.approx(chance, rel=1e-5, abs=1e-8)


@given(
    st.floats(-1e60, 1e60),
    st.floats(-12, 12).map(lambda e: 10.0**e),
    st.floats(-12, 12).map(lambda e: 10.0**e),
)
def test_opinions_are_numbers_however_far_from_everything(observed, sd, unit) -> None:
    opinion = PatchPrior(seen=PatchCounts(), unit=unit).opinion(observed, sd)
    assert sum(opinion.shares) == pytest.approx(1)
    assert math.isfinite(opinion.effect.mean)
    assert 0 <= opinion.effect.variance < math.inf


def test_the_prior_comes_to_what_patches_are_like() -> None:
    random, prior = Random(1), PRIOR
    for _ in range(600):
        is_gain = random.random() < 0.4
        effect = random.expovariate(1 / 30) if is_gain else -random.expovariate(1 / 100)
        seen = prior.learn(prior.opinion(effect + random.gauss(0, 1), 1.0))
        prior = PatchPrior(seen=seen, unit=1.0)
    assert prior.weights[0] == pytest.approx(0.4, abs=0.12)
    assert prior.sizes[0] == pytest.approx(30, rel=0.5)
    assert prior.sizes[2] == pytest.approx(100, rel=0.5)
