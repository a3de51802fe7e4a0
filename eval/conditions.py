"""Under which conditions a trial was measured, and which of them a judge should know of.

Pure. Knows thresholds and why they are what they are. Does not know cards, logs or verdicts: a mark
says that a value was measured under odd conditions, not that it is wrong, and it changes no verdict
by itself.
"""

from dataclasses import dataclass
from enum import StrEnum

THROTTLED_SHARE = 0.05
"""Of the time that was looked at. Throttling costs at most half of the speed or so, hence below
this share less than 2.5 % of the steps: within what two runs of the same code differ by."""

SLOW_RATIO = 0.7
"""Of the incumbent's steps a second. Runs of the same code on the same kind of card differ by a few
percent; a busy neighbour takes about half, hard throttling a third or more."""


class Mark(StrEnum):
    """Something odd about the conditions of a trial."""

    THROTTLED = "throttled"  # heat or failing power held its card back
    STRANGER = "stranger"  # somebody who is not of the study held memory on its card
    SLOW = "slow"  # far fewer steps a second than the incumbent; maybe the patch's own doing


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is known of a trial's conditions; None is what is not."""

    wall_s: float | None = None
    throttled_s: float | None = None
    """Seconds throttled, by reasons that are a fault."""
    stranger_mb: float | None = None
    """MiB that strangers held, 0 up to what is tolerated."""
    steps_per_s: float | None = None


def marks(conditions: Conditions, *, usual_steps_per_s: float | None = None) -> tuple[Mark, ...]:
    """Return what is odd about `conditions`, in the order of Mark; nothing is said of the unknown.

    `usual_steps_per_s` is the incumbent's rate on the same device class, by the same counter; None
    where there is none. A patch that makes the model larger is slow by its own doing, so SLOW tells
    of the machine only together with another mark, or where the patch cannot explain it.
    """
    found: list[Mark] = []
    if conditions.throttled_s and conditions.throttled_s >= THROTTLED_SHARE * (
        conditions.wall_s or 0.0
    ):
        found.append(Mark.THROTTLED)
    if conditions.stranger_mb:
        found.append(Mark.STRANGER)
    rate = conditions.steps_per_s
    if rate is not None and usual_steps_per_s and rate < SLOW_RATIO * usual_steps_per_s:
        found.append(Mark.SLOW)
    return tuple(found)
