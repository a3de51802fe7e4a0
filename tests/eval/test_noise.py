"""Noise is pooled over trees, and one bad pair does not spoil it."""

from random import Random

import pytest

from eval.noise import Noise, pooled_noise


def test_without_a_repeat_nothing_is_known() -> None:
    assert pooled_noise([(1.0,), (2.0,)]) == Noise()


def test_runs_that_repeat_exactly_have_none() -> None:
    assert pooled_noise([(1.0, 1.0, 1.0)]) == Noise(sigma=0.0, dof=2)
    assert pooled_noise([(1.0, 1.0)] * 6 + [(2.0, 3.0)]).sigma > 0


def test_means_may_differ_and_do_not_count() -> None:
    random = Random(1)
    groups = [tuple(random.gauss(100 * g, 2.0) for _ in range(3)) for g in range(200)]
    noise = pooled_noise(groups)
    assert noise.sigma == pytest.approx(2.0, rel=0.1)
    assert noise.dof == 400


def test_one_outlier_is_left_out_and_said_so() -> None:
    groups = [(1.0, 1.1), (2.0, 2.1), (3.0, 2.9), (4.0, 4.1), (5.0, 5.1)]
    spoilt = pooled_noise([*groups, (6.0, 9.0)])
    assert spoilt == pooled_noise(groups).__class__(
        sigma=pytest.approx(pooled_noise(groups).sigma), dof=5, has_outlier=True
    )
    few = pooled_noise([groups[0], (6.0, 9.0)])
    assert not few.has_outlier
