"""Which conditions are odd enough to be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.conditions import Conditions, Mark, marks

numbers = st.none() | st.floats(min_value=0, max_value=1e6)


@pytest.mark.parametrize(
    ("throttled_s", "is_marked"), [(None, False), (0.0, False), (14.9, False), (15.0, True)]
)
def test_throttled_from_a_twentieth_of_the_time(throttled_s: float, is_marked: bool) -> None:
    found = marks(Conditions(wall_s=300.0, throttled_s=throttled_s))
    assert found == ((Mark.THROTTLED,) if is_marked else ())


@pytest.mark.parametrize(("stranger_mb", "is_marked"), [(None, False), (0.0, False), (1.0, True)])
def test_a_stranger_is_whoever_holds_more_than_is_tolerated(
    stranger_mb: float, is_marked: bool
) -> None:
    assert (Mark.STRANGER in marks(Conditions(stranger_mb=stranger_mb))) is is_marked


@pytest.mark.parametrize(
    ("rate", "usual", "is_marked"),
    [
        (6.9, 10.0, True),
        (7.1, 10.0, False),
        (20.0, 10.0, False),
        (1.0, None, False),
        (None, 9.0, 0),
    ],
)
def test_slow_is_far_below_the_incumbent(rate: float, usual: float, is_marked: bool) -> None:
    found = marks(Conditions(steps_per_s=rate), usual_steps_per_s=usual)
    assert found == ((Mark.SLOW,) if is_marked else ())


def test_marks_come_together_in_one_order() -> None:
    odd = Conditions(wall_s=10, throttled_s=5, stranger_mb=900, steps_per_s=1)
    assert marks(odd, usual_steps_per_s=10) == tuple(Mark)


@given(wall_s=numbers, usual=numbers)
def test_of_what_is_unknown_nothing_is_said(wall_s: float | None, usual: float | None) -> None:
    assert marks(Conditions(wall_s=wall_s), usual_steps_per_s=usual) == ()
