"""A worker's hold on the lease of the trial that it runs: heartbeats, and what they bring.

Knows when the next one is due, when the lease must be taken for lost, and for how long its slot may
wait for anything else. Does not know what is run under the lease: a trial of several runs is held
once, from the first to the last.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trainer.ports import Heartbeat, Lease, LeaseSource, Progress, Slot
from trainer.run_records import RunProgress
from trainer.trial import Rung

MOST_HEARTBEAT_S = 2.0
"""People watch the progress that heartbeats carry."""
_TRIES = 3
"""In how many parts of a lease's time a heartbeat is waited for, each time."""
_MARGIN = 1 / 6
"""Which part of a lease's time is left for ending what runs, before somebody else may begin it."""
_FIRST_LOOK_S = 0.1


def look_again_s(elapsed_s: float, ttl_s: float, *, is_prepared: bool) -> float:
    """Return in how many seconds to ask again what to prepare, so long into a trial.

    Ever later, as the trial goes on. A slot that has something prepared keeps it reserved by asking
    again, for which a third of a lease's time is soon enough: these are half of all calls that the
    queue gets. One that has nothing yet asks as often as it beats.
    """
    most_s = ttl_s / 3 if is_prepared else MOST_HEARTBEAT_S
    return min(most_s, max(_FIRST_LOOK_S, elapsed_s))


class Hold:
    """One lease, kept alive by whoever calls `beat` when that is due."""

    def __init__(
        self, leases: LeaseSource, slot: Slot, lease: Lease, clock: Callable[[], float]
    ) -> None:
        """Hold a lease that was got this moment."""
        self.lease = lease
        self._leases = leases
        self._slot = slot
        self._clock = clock
        self._interval_s = min(MOST_HEARTBEAT_S, lease.ttl_s / _TRIES)
        self._margin_s = _MARGIN * lease.ttl_s
        self._kept_at = clock()
        self._is_answered = True
        self._progress = Progress(elapsed_s=0.0)
        self.next_at = self._kept_at + self._interval_s
        """When the next heartbeat is due."""
        self.order = Heartbeat.GO_ON
        """What came back last, besides GO_ON."""

    @property
    def spare_s(self) -> float:
        """For how long the slot may wait for something else: none while a heartbeat is overdue.

        After that there is still time for a heartbeat, and so the lease is not lost by it.
        """
        if not self._is_answered or self.order is Heartbeat.GONE:
            return 0.0
        return max(0.0, self._lost_at - self._clock() - self.lease.ttl_s / _TRIES)

    @property
    def _lost_at(self) -> float:
        """When what runs is to be ended, unless the lease is extended before."""
        return self._kept_at + self.lease.ttl_s - self._margin_s

    def note(self, news: RunProgress, rung: Rung) -> None:
        """Have the next heartbeats tell where the run stands that is under way.

        What a smoke run counts is no part of the trial's curve.
        """
        is_full = rung is Rung.FULL
        self._progress = Progress(
            elapsed_s=news.elapsed_s,
            last_line=news.last_line if is_full else f"smoke run: {news.last_line}".rstrip(": "),
            points=news.points if is_full else {},
        )

    def is_wanted(self) -> bool:
        """Ask at once, between two runs, whether the trial is to go on."""
        self.beat()
        return self.order is Heartbeat.GO_ON

    def beat(self, most_s: float = math.inf) -> bool:
        """Send a heartbeat; say whether the run must be ended, which is said once.

        It is waited for until the lease must be taken for lost, or for `most_s` if that is less.
        """
        now = self._clock()
        self.next_at = now + self._interval_s
        if self.order is Heartbeat.GONE:
            return False
        # Whoever is late, as after long preparations, asks all the same: it may be ours still.
        left_s = self._lost_at - now if now < self._lost_at else self._margin_s
        patience_s = min(left_s, self.lease.ttl_s / _TRIES, most_s)
        try:
            answer = self._leases.heartbeat(self._slot, self.lease, self._progress, patience_s)
            self._kept_at, self._is_answered = now, True
        except ConnectionError:
            is_lost = self._clock() >= self._lost_at
            answer = Heartbeat.GONE if is_lost else Heartbeat.GO_ON
            self._is_answered = False
            self.next_at = min(self.next_at, self._lost_at)
        if answer is Heartbeat.GO_ON:
            return False
        is_first = self.order is Heartbeat.GO_ON
        self.order = answer
        return is_first

    @contextmanager
    def kept(self, end: Callable[[], None]) -> Iterator[None]:
        """Send what is due from a thread while the slot's own does something that may last.

        `end` is called there if the run must be ended.
        """
        is_back = threading.Event()

        def keep() -> None:
            while not is_back.wait(max(0.0, self.next_at - self._clock())):
                if self.beat():
                    end()

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_back.set()
            thread.join()
