"""What the normal distribution has to say, far into its tails. Pure."""

import math
from collections.abc import Callable

_FAR = -30.0
"""Beyond this the distribution function nears the smallest number that there is; a series serves
there, whose first term left out is below 1e-11."""
_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)

_GAUSS_HERMITE_7 = (
    (0.0, 0.457142857142857),
    (1.154405394739968, 0.240123178605013),
    (2.366759410734541, 0.030757123967586),
    (3.750439717725742, 0.000548268855972),
)
"""Nodes and weights for the standard normal; all but the first also with the other sign."""


def log_cdf(x: float) -> float:
    """Return ln Phi(x), finite for every finite x."""
    if x > 0:
        return math.log1p(-survival(x))
    if x > _FAR:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2)))
    return -0.5 * x * x - _LOG_ROOT_TWO_PI - math.log(inverse_mills(x))


def inverse_mills(x: float) -> float:
    """Return phi(x) / Phi(x): how far the mean of a normal moves that is cut off x below it."""
    if x > _FAR:
        return math.exp(log_inverse_mills(x))
    t = 1 / (x * x)
    return -x / (1 - t * (1 - t * (3 - t * (15 - t * 105))))


def log_inverse_mills(x: float) -> float:
    """Return ln (phi(x) / Phi(x)), finite where the ratio itself is too small for a number."""
    if x > _FAR:
        return -0.5 * x * x - _LOG_ROOT_TWO_PI - log_cdf(x)
    return math.log(inverse_mills(x))


def survival(x: float) -> float:
    """Return 1 - Phi(x): the p-value of x, one-sided."""
    return 0.5 * math.erfc(x / math.sqrt(2))


def expectation(of: Callable[[float], float], mean: float, sd: float) -> float:
    """Return the expectation of a function of a normal variable, by 7-point Gauss-Hermite."""
    total = 0.0
    for node, weight in _GAUSS_HERMITE_7:
        total += weight * of(mean + sd * node)
        if node:
            total += weight * of(mean - sd * node)
    return total
