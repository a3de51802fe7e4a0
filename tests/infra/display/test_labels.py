"""Labels do not overlap and stay where they may be, wherever the points are."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.display.labels import Area, Label, Placed, place

AREA = Area(left=0, bottom=0, right=1000, top=500)
GAP = 8.0

labels = st.builds(
    Label,
    x=st.floats(0, 1000),
    y=st.floats(0, 500),
    widths=st.sampled_from([(300.0,), (250.0, 60.0), (40.0, 30.0, 20.0)]),
    height=st.floats(8, 14),
)


def corners(label: Label, placed: Placed, tilt: float) -> list[tuple[float, float]]:
    """Corners of the text's box, in order; worked out anew, from where a renderer would put it."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    width = label.widths[placed.form]
    start = 0.0 if placed.is_ahead else -width
    u = (start, start + width, start + width, start)
    v = (-label.height / 2, -label.height / 2, label.height / 2, label.height / 2)
    x, y = label.x + placed.dx, label.y + placed.dy
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in zip(u, v, strict=True)]


def overlap(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> bool:
    """Separating axes: two convex shapes are apart if some edge's normal separates them."""
    for shape in (one, other):
        for (x0, y0), (x1, y1) in zip(shape, shape[1:] + shape[:1], strict=True):
            a = [(y1 - y0) * x - (x1 - x0) * y for x, y in one]
            b = [(y1 - y0) * x - (x1 - x0) * y for x, y in other]
            slack = 1e-6 * (abs(x1 - x0) + abs(y1 - y0)) * 1000
            if max(a) <= min(b) + slack or max(b) <= min(a) + slack:
                return False
    return True


@settings(deadline=None)  # the machine may be busy
@given(st.lists(labels, max_size=12), st.sampled_from([30.0, -30.0]))
def test_labels_never_overlap_and_never_leave_the_area(found: list[Label], tilt: float) -> None:
    places = place(found, dots=[], area=AREA, tilt=tilt, gap=GAP)
    assert len(places) == len(found)
    boxes = [
        corners(label, placed, tilt)
        for label, placed in zip(found, places, strict=True)
        if placed is not None
    ]
    for box in boxes:
        assert all(-1e-6 <= x <= 1000 + 1e-6 and -1e-6 <= y <= 500 + 1e-6 for x, y in box)
    assert not any(overlap(one, other) for one, other in combinations(boxes, 2))


def test_a_label_starts_at_its_point_where_there_is_room() -> None:
    label = Label(x=100, y=100, widths=(100,), height=10)
    (placed,) = place([label], dots=[], area=AREA, tilt=30, gap=GAP)
    assert placed is not None
    assert (placed.is_ahead, placed.steps) == (True, 0)
    assert placed.dx > 0
    assert placed.dy > 0


@pytest.mark.parametrize(("tilt", "sign"), [(30.0, 1), (-30.0, -1)])
def test_at_the_right_edge_a_label_ends_at_its_point(tilt: float, sign: int) -> None:
    label = Label(x=990, y=250, widths=(100,), height=10)
    (placed,) = place([label], dots=[], area=AREA, tilt=tilt, gap=GAP)
    assert placed is not None
    assert not placed.is_ahead
    assert placed.dy * sign < 0


def test_a_label_moves_away_rather_than_cover_dots() -> None:
    label = Label(x=100, y=100, widths=(100,), height=10)
    (plain,) = place([label], dots=[], area=AREA, tilt=30, gap=GAP)
    assert plain is not None
    middle = [(100 + plain.dx + 40 * i, 100 + plain.dy + 23 * i) for i in (1, 2)]
    (moved,) = place([label], dots=middle, area=AREA, tilt=30, gap=GAP)
    assert moved is not None
    assert (moved.is_ahead, moved.steps) != (plain.is_ahead, plain.steps)


def test_a_label_that_does_not_fit_is_shortened_or_left_out() -> None:
    for widths, form in (((5000, 100), 1), ((5000, 4000), None)):
        label = Label(x=100, y=100, widths=widths, height=10)
        (placed,) = place([label], dots=[], area=AREA, tilt=30, gap=GAP)
        assert (placed.form if placed else None) == form


def test_the_most_important_label_has_the_first_choice() -> None:
    same = [Label(x=100, y=100, widths=(100,), height=10) for _ in range(3)]
    places = place(same, dots=[], area=AREA, tilt=30, gap=GAP)
    assert places[0] is not None
    assert places[0].steps == 0
    assert len({(placed.is_ahead, placed.steps) for placed in places if placed is not None}) == 3
