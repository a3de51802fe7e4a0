"""A curve is what a trial printed, by the share of its budget from the first number on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.curve import STEP, Curve, curve_of


def test_without_a_number_there_is_no_curve() -> None:
    assert curve_of([], 100.0) == Curve()
    assert Curve().percent == 0


def test_each_step_has_the_median_of_what_was_printed_in_it() -> None:
    points = [(0.0, 9.0), (2.0, 3.0), (4.0, 1.0), (5.0, 8.0), (10.0, 5.0)]
    assert curve_of(points, 100.0).values == ((5, 3.0), (10, 8.0))


def test_the_step_that_is_under_way_has_no_value_yet() -> None:
    assert curve_of([(0.0, 1.0), (4.9, 1.0)], 100.0).values == ()
    assert curve_of([(0.0, 1.0), (5.0, 2.0)], 100.0).values == ((5, 1.0),)


def test_a_step_without_a_line_has_the_value_of_the_one_before() -> None:
    assert curve_of([(0.0, 2.0), (16.0, 1.0)], 100.0).values == ((5, 2.0), (10, 2.0), (15, 2.0))


def test_what_comes_before_the_first_number_shifts_nothing() -> None:
    """A cold start that compiles for 20 s, and a warm one."""
    cold = curve_of([(20.0 + t, 100.0 - t) for t in range(60)], 100.0)
    warm = curve_of([(0.5 + t, 100.0 - t) for t in range(60)], 100.0)
    assert cold.values == warm.values
    assert (cold.at_s(50, 100.0), warm.at_s(50, 100.0)) == (70.0, 50.5)


def test_what_was_known_at_a_moment_is_the_beginning() -> None:
    curve = curve_of([(float(t), -float(t)) for t in range(100)], 100.0)
    assert curve.percent == 95
    assert curve.until(50).percent == 50
    assert curve.until(50).last == curve.values[9][1]
    assert curve.until(52) == curve.until(50)


@given(gaps=st.lists(st.floats(0.01, 400), min_size=1, max_size=60), value=st.floats(-1e9, 1e9))
def test_steps_are_whole_without_gaps_and_end_with_the_budget(
    gaps: list[float], value: float
) -> None:
    at_s = 0.0
    points = [(at_s := at_s + gap, value) for gap in gaps]
    curve = curve_of(points, 300.0)
    assert [percent for percent, _ in curve.values] == list(range(STEP, curve.percent + 1, STEP))
    assert all(each == value for _, each in curve.values)
    assert curve.percent <= 100
    covered = 100 * (points[-1][0] - curve.began_s) / 300.0
    assert curve.percent == pytest.approx(min(100, covered // STEP * STEP), abs=STEP)
