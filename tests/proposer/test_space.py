"""Spaces: every coordinate has a value inside, and every value inside has its coordinate."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposer.proposal import Scalar
from proposer.space import Axis, AxisKind, Choices, Interval, Lattice, Mirrored, Powers, Space

SPACES: list[Space] = [
    Choices(values=("a", "b", "c")),
    Choices(values=(False, True)),
    Interval(low=1e-5, high=1e-3, log=True),
    Interval(low=0.0, high=0.5),
    Interval(low=0.005, high=0.5, log=True, from_one=True),
    Interval(low=9.5, high=1000.5, log=True, is_integer=True),
    Lattice(low=4, step=4, count=7),
    Lattice(low=0.1, step=0.1, count=9),
    Powers(low=15, high=19),
    Mirrored(of=Powers(low=0, high=3)),
    Mirrored(of=Interval(low=0.01, high=1.0, log=True)),
]


def coordinate(axis: Axis, share: float) -> float:
    """Return the point at a share of the axis' length."""
    at = axis.low + (axis.high - axis.low) * share
    return at if axis.kind is AxisKind.REAL else round(at)


@pytest.mark.parametrize("space", SPACES)
@settings(deadline=None)  # the machine may be busy
@given(share=st.floats(0, 1))
def test_a_coordinate_becomes_a_value_of_the_space_and_stays_close(
    space: Space, share: float
) -> None:
    at = coordinate(space.axis, share)
    value = space.decode(at)
    assert space.contains(value)
    back = space.encode(value)
    assert back is not None
    assert space.axis.low <= back <= space.axis.high
    is_rounded = space.axis.kind is AxisKind.REAL
    assert back == (pytest.approx(at, rel=0.06, abs=1e-9) if is_rounded else at)
    assert space.decode(back) == value


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Lattice(low=4, step=4, count=3), [4, 8, 12]),
        (Lattice(low=0.1, step=0.1, count=3), [0.1, 0.2, 0.3]),
        (Powers(low=2, high=4), [4, 8, 16]),
        (Mirrored(of=Powers(low=2, high=4)), [-4, -8, -16]),
        (Choices(values=("a", "b")), ["a", "b"]),
    ],
)
def test_whole_coordinates_count_the_values(space: Space, values: list[Scalar]) -> None:
    axis = space.axis
    found = [space.decode(at) for at in range(int(axis.low), int(axis.high) + 1)]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_value_near_one_is_found_by_its_distance_to_one() -> None:
    space = Interval(low=0.001, high=0.5, log=True, from_one=True)
    assert space.decode(0.05) == 0.95
    assert space.decode(0.0123456) == 0.9877
    assert space.encode(0.95) == pytest.approx(0.05)


def test_floats_are_rounded_to_three_digits() -> None:
    assert Interval(low=1e-5, high=1.0, log=True).decode(0.00123456) == 0.00123


def test_rounding_does_not_leave_the_interval() -> None:
    space = Interval(low=0.12345, high=0.12346)
    assert space.decode(0.12345) == 0.12345
    assert Interval(low=1.4, high=9.6, log=True, is_integer=True).decode(1.4) == 2


@pytest.mark.parametrize(
    ("space", "value", "nearest"),
    [
        (Interval(low=0.1, high=1.0), 5.0, 1.0),
        (Lattice(low=4, step=4, count=3), 9, 8),
        (Lattice(low=4, step=4, count=3), 99, 12),
        (Powers(low=2, high=4), 9, 8),
        (Powers(low=2, high=4), 0, 4),
    ],
)
def test_a_number_outside_gets_the_coordinate_of_the_nearest(
    space: Space, value: Scalar, nearest: Scalar
) -> None:
    assert not space.contains(value)
    at = space.encode(value)
    assert at is not None
    assert space.decode(at) == nearest


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Choices(values=("a", "b")), "c"),
        (Choices(values=(1, 2)), True),
        (Choices(values=(1, 2)), 1.0),
        (Interval(low=0.0, high=1.0), "a"),
        (Interval(low=0.0, high=1.0), True),
        (Interval(low=0.0, high=9.0, is_integer=True), 0.5),
        (Lattice(low=1, step=1, count=9), 2.0),
        (Powers(low=0, high=4), True),
        (Mirrored(of=Powers(low=0, high=4)), "a"),
    ],
)
def test_a_value_of_another_type_has_no_coordinate(space: Space, value: Scalar) -> None:
    assert not space.contains(value)
    assert space.encode(value) is None


def test_an_integer_counts_as_a_float() -> None:
    assert Interval(low=0.0, high=9.0).encode(3) == 3.0
    assert math.isclose(float(Interval(low=0.0, high=9.0).decode(3)), 3.0)
