"""Ends leases that ran out, though the machine's clock may be set, and the machine may sleep.

When a lease ends is written in the ledger's server as a time of day, for whoever comes next has no
other clock in common with who wrote it. So whoever ends leases compares that clock with one that
nobody sets, and when they disagree, and when it looks for the first time, it has every lease last
as long from now as one that was just extended: nobody's is over too soon, or only after the hour by
which the clock was put back.
"""

import time
from collections.abc import Callable
from datetime import datetime

from cluster.queue.trial_queue import TrialQueue

FIRST_TTLS = 4
"""How many times longer a lease lasts until its first heartbeat: a worktree may have to be made."""
_NOTICED_S = 1.0
"""By how much a clock was set that counts as set; less is lost in a lease."""


class LeaseWatch:
    """Looks after the leases of a queue for one process on the study's head."""

    def __init__(
        self,
        queue: TrialQueue,
        *,
        now: Callable[[], datetime],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`steady` counts seconds, is never set, and stands still while the machine sleeps."""
        self._queue = queue
        self._now = now
        self._steady = steady
        self._ahead_s: float | None = None
        """How far the time of day was ahead of the steady clock at the last look."""

    def look(self, ttl_s: float) -> datetime:
        """Renew all leases if the clock was set since the last look, or this is the first.

        Returns the time by which they were looked at. Raises LedgerAway, as all here.
        """
        now = self._now()
        ahead_s = now.timestamp() - self._steady()
        if self._ahead_s is None or abs(ahead_s - self._ahead_s) > _NOTICED_S:
            self._queue.renew(now=now, ttl_s=ttl_s, most_s=FIRST_TTLS * ttl_s)
        self._ahead_s = ahead_s
        return now

    def expire(self, ttl_s: float) -> int:
        """End the leases that ran out; return how many."""
        return self._queue.expire(now=self.look(ttl_s))

    def renew(self, ttl_s: float) -> None:
        """Have every lease last for `ttl_s` seconds, after an outage of the queue's server."""
        self._ahead_s = None
        self.look(ttl_s)
