"""What a slot sees to beside what runs on it, one call to the queue after the other.

Knows what comes first: the heartbeat of what runs, and nothing else while that is not answered.
Does not know what runs.
"""

import math
from collections.abc import Callable

from trainer.hold import Hold
from trainer.outbox import Outbox
from trainer.scoring import Scoring


class Chores:
    """The heartbeats of one slot, the trial that is being scored, and outcomes that wait."""

    def __init__(self, scoring: Scoring, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._scoring = scoring
        self._outbox = outbox
        self._clock = clock

    def next_at(self, hold: Hold, other_at: float = math.inf) -> float:
        """Return when there is something to see to, besides what runs under `hold`.

        `other_at` is when its slot wants to do something else, for which there is as little time.
        """
        if not hold.spare_s:
            return hold.next_at
        return min(hold.next_at, self._scoring.next_at, self._outbox.next_at, other_at)

    def see_to(self, hold: Hold) -> bool:
        """Do what is due; say whether what runs must be ended, which is said once."""
        is_over = self._clock() >= hold.next_at and hold.beat()
        if spare_s := hold.spare_s:
            self._scoring.tend(most_s=spare_s)
        if (spare_s := hold.spare_s) and self._clock() >= self._outbox.next_at:
            self._outbox.offer(spare_s)
        return is_over
