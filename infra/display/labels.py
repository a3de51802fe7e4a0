"""Where tilted labels go so that they do not overlap. Pure geometry, in any unit of length.

All labels are tilted by one angle, so in axes turned by that angle each is an upright box. A label
starts at its point (ahead), or ends there (behind); where that is taken it moves away from the
curve, step by step, or takes a shorter form. Labels are placed one after the other, and one that
fits nowhere is left out.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

MOST_STEPS = 12
DOT_COST = 3.0
"""Covering a dot is as bad as being moved by so many steps."""
FORM_COST = 8.0
"""And so is each shorter form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text to be placed at a point."""

    x: float
    y: float
    widths: tuple[float, ...]
    """Of the text and of shorter forms of it, the longest first."""
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """What labels must stay within."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a label goes."""

    dx: float
    dy: float
    """From the point to the label's near end, at half its height."""
    is_ahead: bool
    """The label starts at the point; otherwise it ends there."""
    steps: int
    """How far it was moved away."""
    form: int
    """Which of its widths it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A label in the turned axes."""

    u0: float
    v0: float
    u1: float
    v1: float

    def overlaps(self, other: "_Box") -> bool:
        return (
            self.u0 < other.u1 and other.u0 < self.u1 and self.v0 < other.v1 and other.v0 < self.v1
        )


class _Turned:
    """Axes turned by an angle."""

    def __init__(self, degrees: float) -> None:
        self.cos = math.cos(math.radians(degrees))
        self.sin = math.sin(math.radians(degrees))

    def turn(self, x: float, y: float) -> tuple[float, float]:
        return x * self.cos + y * self.sin, y * self.cos - x * self.sin

    def corners(self, box: _Box) -> Iterator[tuple[float, float]]:
        for u in (box.u0, box.u1):
            for v in (box.v0, box.v1):
                yield u * self.cos - v * self.sin, u * self.sin + v * self.cos


def place(
    labels: Sequence[Label],
    *,
    dots: Sequence[tuple[float, float]],
    area: Area,
    tilt: float,
    gap: float,
) -> list[Placed | None]:
    """Place labels, the most important first.

    Args:
        labels: texts and their points.
        dots: what labels should rather not cover.
        area: where labels may be.
        tilt: angle of the text in degrees, counter-clockwise; labels ahead of their points move to
            the side that it points to, labels behind to the other.
        gap: distance between a point and its label.

    Returns:
        A place for each label, or None where there was no room.
    """
    axes = _Turned(tilt)
    # Sorted across the labels: each covers a narrow band of dots, found by bisection.
    turned = sorted((v, u) for u, v in (axes.turn(x, y) for x, y in dots))
    taken: list[_Box] = []
    placed: list[Placed | None] = []
    for label in labels:
        best: tuple[float, _Box, Placed] | None = None
        for candidate, box in _candidates(label, axes, tilt, gap):
            if not _is_free(box, axes, area, taken):
                continue
            cost = candidate.steps + FORM_COST * candidate.form + DOT_COST * _covered(box, turned)
            if best is None or cost < best[0]:
                best = (cost, box, candidate)
        placed.append(best[2] if best else None)
        if best:
            taken.append(best[1])
    return placed


def _candidates(
    label: Label, axes: _Turned, tilt: float, gap: float
) -> Iterator[tuple[Placed, _Box]]:
    sides = ((True, 1.0), (False, -1.0))
    forms = enumerate(label.widths)
    for (form, width), steps, (is_ahead, side) in product(forms, range(MOST_STEPS + 1), sides):
        # Half a step at least: a staircase runs on level from its points.
        away = math.copysign((steps + 0.5) * label.height, tilt)
        dx, dy = side * gap * axes.cos, side * (gap * axes.sin + away)
        u, v = axes.turn(label.x + dx, label.y + dy)
        start, half = (u if is_ahead else u - width), label.height / 2
        box = _Box(u0=start, v0=v - half, u1=start + width, v1=v + half)
        yield Placed(dx=dx, dy=dy, is_ahead=is_ahead, steps=steps, form=form), box


def _is_free(box: _Box, axes: _Turned, area: Area, taken: Sequence[_Box]) -> bool:
    inside = all(
        area.left <= x <= area.right and area.bottom <= y <= area.top for x, y in axes.corners(box)
    )
    return inside and not any(box.overlaps(other) for other in taken)


def _covered(box: _Box, dots: Sequence[tuple[float, float]]) -> int:
    band = dots[bisect_left(dots, (box.v0, -math.inf)) : bisect_right(dots, (box.v1, math.inf))]
    return sum(box.u0 <= u <= box.u1 for _, u in band)
