"""Noise is pooled over trees, and one bad pair does not spoil it."""

from random import Random

import pytest

from eval.noise import Noise, mean_of, pooled_noise


def test_without_a_repeat_nothing_is_known() -> None:
    assert pooled_noise([(1.0,), (2.0,)]) == Noise()


def test_runs_that_repeat_exactly_have_none() -> None:
    assert pooled_noise([(1.0, 1.0, 1.0)]) == Noise(sigma=0.0, dof=2, digits=1)
    assert pooled_noise([(1.0, 1.0)] * 6 + [(2.0, 3.0)]).sigma > 0


@pytest.mark.parametrize("value", [0.1, 0.912, 0.1851, 1e-7, 2 / 3])
def test_equal_values_have_no_spread_to_the_last_digit(value: float) -> None:
    for count in range(2, 30):
        assert mean_of([value] * count) == value
        assert pooled_noise([[value] * count]).sigma == 0.0


@pytest.mark.parametrize(
    ("groups", "is_known"),
    [
        ([(0.912, 0.913)], True),
        ([(0.912,)], False),
        ([(0.912,) * 8], False),
        ([(0.912,) * 9], True),
        ([(0.912, 0.912)] * 8, True),
        ([(0.997912, 0.997912)], True),
        ([(1200.0, 1200.0)], False),
        ([(1e-7, 1e-7), (2 / 3, 2 / 3)], True),
    ],
)
def test_that_runs_repeat_exactly_takes_many_or_many_digits_to_know(
    groups: list[tuple[float, ...]], is_known: bool
) -> None:
    assert pooled_noise(groups).is_known is is_known


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
