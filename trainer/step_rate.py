"""How many steps a second a run makes, told from the counters in its progress lines.

Pure. Knows what training scripts call a step and how to fit a rate robustly. Does not know where
the lines come from, nor whether a rate is good. Standard library only: the supervisor imports this
module in an isolated interpreter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

COUNTERS = ("step", "global_step", "iter", "iteration", "it", "batch", "epoch")
"""Names, in any case, under which scripts count; what comes earlier is the finer count.

Totals ("steps", "num_steps") do not move, and rates that a script prints itself (tok/s, it/s) are
among its metrics: neither is used here.
"""

_MOST_POINTS = 256
_WINDOW = 8
_LEAST_POINTS = 5
_LEAST_SPAN_S = 1.0
_MARGIN = 0.1
"""Share of a run, at each end, that is left out: compiling and warming up, and winding down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRate:
    """A rate and what it counts. Rates of different counters do not compare."""

    per_s: float
    counter: str
    """One of COUNTERS."""


@dataclass(slots=True)
class _Series:
    """One counter over time, thinned out so that a long run takes no more memory than a short."""

    points: list[tuple[float, float]] = field(default_factory=list)
    _last: float = 0.0
    _rise: float = 0.0
    """By how much the counter moved last."""
    _before: float = 0.0
    """What was counted before the counter last began anew."""
    _stride: int = 1
    _skipped: int = 0

    def add(self, at_s: float, value: float) -> bool:
        """Take in a reading; say whether the counter has moved."""
        if self.points and value == self._last:
            return False
        if value < self._last:  # an inner counter starts again with each epoch, at 0 or at 1
            self._before += self._last + (0.0 if value else self._rise)
        else:
            self._rise = value - self._last
        self._last = value
        self._skipped += 1
        if self._skipped < self._stride and self.points:
            return True
        self._skipped = 0
        self.points.append((at_s, self._before + value))
        if len(self.points) > _MOST_POINTS:
            del self.points[1::2]
            self._stride *= 2
        return True


class StepCounter:
    """Collects a run's counters and tells the rate of the finest that says enough."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def feed(self, at_s: float, points: Mapping[str, float]) -> bool:
        """Take in a progress line's numbers, read at `at_s`; say whether a counter has moved."""
        moved = False
        for counter, value in counters(points).items():
            moved |= self._series.setdefault(counter, _Series()).add(at_s, value)
        return moved

    def rate(self) -> StepRate | None:
        """Return the rate; None if no counter was seen long enough to tell one."""
        for counter in COUNTERS:
            series = self._series.get(counter)
            per_s = slope(middle(series.points)) if series else None
            if per_s is not None:
                return StepRate(per_s=per_s, counter=counter)
        return None


def counters(points: Mapping[str, float]) -> dict[str, float]:
    """Return those of a progress line's numbers that count steps."""
    return {name.lower(): value for name, value in points.items() if name.lower() in COUNTERS}


def middle(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (seconds, steps) without those of the first and the last tenth of time."""
    if not points:
        return []
    begin, end = points[0][0], points[-1][0]
    margin_s = _MARGIN * (end - begin)
    return [point for point in points if begin + margin_s <= point[0] <= end - margin_s]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return steps a second: the median of the slopes between points a window apart.

    A pause (a checkpoint, an evaluation) concerns only the windows in which it lies, and is without
    effect as long as those are less than half. (The slopes between all pairs, Theil and Sen's, look
    more robust and are not: every pair around a pause is off.) A window is several points wide,
    since the output is read every so often, which rounds the time of each point.

    None for fewer than five points, for less than a second between the first and the last, and
    where the result is not a positive number.
    """
    if len(points) < _LEAST_POINTS or points[-1][0] - points[0][0] < _LEAST_SPAN_S:
        return None
    width = min(_WINDOW, len(points) // 2)
    found = sorted(
        (steps - earlier) / (at_s - before_s)
        for (before_s, earlier), (at_s, steps) in zip(points, points[width:], strict=False)
        if at_s > before_s
    )
    # Not `statistics`, for which every supervisor would load decimals and fractions: 3 ms, 0.8 MB.
    per_s = found[len(found) // 2] if found else 0.0
    return per_s if per_s > 0 else None
