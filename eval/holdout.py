"""What is told of labels that nothing is chosen by, and whether the choosing still generalises.

Pure. Each answer to a question about a data set tells a little of its labels, and whoever chooses
by the answers fits them in the end. The Ladder answers only with what is better than all before by
more than a step, rounded to it: so few answers differ from the last that little leaks, however
many are asked (Blum and Hardt: The Ladder: A Reliable Leaderboard for Machine Learning
Competitions, ICML 2015, arXiv:1502.04585, algorithm 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.metric import Metric

LEAST_PROMOTIONS = 3
"""Fewer without a better holdout say nothing: each is better by little."""
_LEAST_STEPS = 2.0
"""A gain that the Ladder need not have told, rounding included, is no gain to be missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One tree, by both kinds of labels, in the metric's unit."""

    validation: float
    holdout: float
    """What the Ladder told: of this tree, or of the best before it."""
    step: float
    """By how much that had to be better than before; 0 tells all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """How long the holdout has not got better while the validation labels were searched."""

    promotions: int
    gained: float
    """By how much validation has got better over these; positive is better."""
    is_suspicious: bool
    """That is more than chance and rounding explain: the search fits the validation labels."""


def ladder(best: float | None, value: float, *, step: float, metric: Metric) -> float:
    """Return what is told of a value, where `best` was told before; None if nothing was."""
    if best is not None and metric.improvement(value, best) <= step:
        return best
    return round(value / step) * step if step else value


def gap(look: Look, metric: Metric) -> float:
    """Return by how much the validation labels say more than the holdout's."""
    return metric.improvement(look.validation, look.holdout)


def stall(looks: Sequence[Look], metric: Metric) -> Stall:
    """Return what has happened since the holdout last got better, of looks in their order."""
    if not looks:
        return Stall(promotions=0, gained=0.0, is_suspicious=False)
    last = looks[-1]
    since = next(
        index for index, look in enumerate(looks) if look.holdout == last.holdout
    )  # the Ladder never goes back, so all from there on are equal
    promotions = len(looks) - 1 - since
    gained = metric.improvement(last.validation, looks[since].validation)
    is_clear = gained > _LEAST_STEPS * last.step
    return Stall(
        promotions=promotions,
        gained=gained,
        is_suspicious=promotions >= LEAST_PROMOTIONS and is_clear,
    )
