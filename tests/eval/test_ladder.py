"""Who goes on from a rung: the best share of those that have completed it so far."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.ladder import FEWEST, Step
from eval.metric import Goal

THIRD = Step(budget_s=30.0, keep=0.33)


def test_of_few_all_go_on() -> None:
    worst = THIRD.standing(9.0, [1.0] * (FEWEST - 2), Goal.MINIMIZE)
    assert (worst.rank, worst.of, worst.goes_on) == (4, 4, True)
    assert worst.reason == "rung of 30 s: place 4 of 4, and all go on until there are 5"
    last = THIRD.standing(9.0, [1.0] * (FEWEST - 1), Goal.MINIMIZE)
    assert not last.goes_on
    assert last.reason == "rung of 30 s: place 5 of 5, of which the best 2 go on"


@pytest.mark.parametrize(
    ("of", "keep", "going_on"),
    [(5, 0.33, 2), (6, 0.33, 2), (7, 0.33, 3), (10, 0.1, 1), (100, 0.07, 7), (10, 0.99, 10)],
)
def test_the_share_is_rounded_up(of: int, keep: float, going_on: int) -> None:
    values = [float(n) for n in range(of)]
    step = Step(budget_s=1.0, keep=keep)
    found = [
        value
        for value in values
        if step.standing(value, [v for v in values if v != value], Goal.MINIMIZE).goes_on
    ]
    assert found == values[:going_on]


def test_more_is_better_where_the_goal_says_so() -> None:
    others = [0.1, 0.2, 0.3, 0.4]
    assert THIRD.standing(0.5, others, Goal.MAXIMIZE).rank == 1
    assert THIRD.standing(0.5, others, Goal.MINIMIZE).rank == 5


def test_equal_ones_share_a_place() -> None:
    assert THIRD.standing(1.0, [1.0] * 9, Goal.MINIMIZE).rank == 1


@given(
    values=st.lists(st.floats(-9, 9), min_size=FEWEST, max_size=30, unique=True),
    keep=st.floats(0.05, 0.95),
)
def test_who_goes_on_is_better_than_who_does_not_and_they_are_about_the_share(
    values: Sequence[float], keep: float
) -> None:
    step = Step(budget_s=1.0, keep=keep)
    goes_on = {
        value: step.standing(value, [v for v in values if v != value], Goal.MINIMIZE).goes_on
        for value in values
    }
    on = [value for value in values if goes_on[value]]
    off = [value for value in values if not goes_on[value]]
    assert on
    assert max(on) < min(off, default=10.0)
    assert keep * len(values) <= len(on) + 1e-6 <= keep * len(values) + 1
