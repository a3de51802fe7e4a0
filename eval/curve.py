"""The curve of a trial: a number that it printed, by the share of its budget. Pure.

What is compared is one number of the progress lines, e.g. the training loss. A curve begins when
the number is first seen, so that imports and compilation, which take longer in a cold start than in
a warm one, shift nothing. Values are those of steps a twentieth of the budget wide: curves of
trials that print at different moments can be held against each other, and the median of a step is
less noisy than a line. It also outvotes a number that was read while the script was printing it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

STEP = 5
"""Width of a step, in percent of the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A printed number by the share of the budget."""

    values: tuple[tuple[int, float], ...] = ()
    """The end of each step that is over, in percent of the budget, and the number there."""
    began_s: float = 0.0
    """When the number was first seen, in seconds from the trial's start."""

    @property
    def percent(self) -> int:
        """How far it reaches; 0 for an empty one."""
        return self.values[-1][0] if self.values else 0

    @property
    def last(self) -> float:
        """The latest value; raises IndexError for an empty curve."""
        return self.values[-1][1]

    def until(self, percent: int) -> "Curve":
        """Return what was known of it at a moment."""
        known = tuple(value for value in self.values if value[0] <= percent)
        return Curve(values=known, began_s=self.began_s)

    def at_s(self, percent: int, budget_s: float) -> float:
        """Return when it got so far, in seconds from the trial's start."""
        return self.began_s + percent / 100 * budget_s


def curve_of(points: Iterable[tuple[float, float]], budget_s: float) -> Curve:
    """Return the curve of a number that had these values, up to the end of the budget.

    A step in which nothing was printed has the value of the one before. The step that is under way
    has none.

    Args:
        points: seconds from the trial's start, ascending, with the value at that moment.
        budget_s: what the trial aims at, in seconds, above 0.
    """
    by_step: dict[int, list[float]] = {}
    began_s, reached = 0.0, 0
    for at_s, value in points:
        if not by_step:
            began_s = at_s
        reached = min(100 // STEP, int(100 * (at_s - began_s) / budget_s / STEP))
        by_step.setdefault(reached, []).append(value)
    values: list[tuple[int, float]] = []
    for step in range(reached):
        value = median(by_step[step]) if step in by_step else values[-1][1]
        values.append(((step + 1) * STEP, value))
    return Curve(values=tuple(values), began_s=began_s)
