"""Tails, held to scipy where that can still tell, and to their bounds beyond."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr
from scipy.stats import norm

from eval.normal import expectation, inverse_mills, log_cdf, log_inverse_mills, survival


@pytest.mark.parametrize("x", [-1e8, -1e4, -100, -38, -30.01, -29.99, -8, -1, 0, 1, 8, 40, 1e8])
def test_the_logarithm_of_the_distribution_function(x: float) -> None:
    assert log_cdf(x) == pytest.approx(float(log_ndtr(x)), rel=1e-10, abs=1e-300)


@given(st.floats(-1e9, 1e9))
def test_the_inverse_mills_ratio_exceeds_minus_x_by_less_than_one_over_x(x: float) -> None:
    ratio = inverse_mills(x)
    assert ratio >= 0
    if -1e6 < x < 0:
        # Gordon (1941): x < phi(x) / (1 - Phi(x)) < x + 1 / x
        assert -x * (1 - 1e-9) <= ratio <= (-x - 1 / x) * (1 + 1e-9)
    if ratio > 1e-300:
        assert math.exp(log_inverse_mills(x)) == pytest.approx(ratio)


def test_a_p_value_is_what_lies_beyond() -> None:
    for x in (-3.0, 0.0, 1.96, 20.0):
        assert survival(x) == pytest.approx(float(norm.sf(x)))


def test_an_expectation_is_exact_for_polynomials_of_degree_thirteen() -> None:
    assert expectation(lambda _: 1.0, 3.0, 2.0) == pytest.approx(1.0)
    assert expectation(lambda x: x**4, 1.0, 2.0) == pytest.approx(1 + 6 * 4 + 3 * 16)
    assert expectation(lambda x: x**13, 0.0, 1.0) == pytest.approx(0.0, abs=1e-6)
    assert expectation(lambda x: x**12, 0.0, 1.0) == pytest.approx(10395)
