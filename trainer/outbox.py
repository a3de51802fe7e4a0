"""Outcomes on their way to the queue, which may be away for a while.

Knows how long to go on offering one. Does not know what it says. While the next trial runs it must
not be waited for; when none runs, there is nothing better to do.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.ports import Lease, LeaseSource, ResultSink, Slot
from trainer.trial import TrialOutcome

_RETRY_S = 0.5
_BESIDE_RETRY_S = 2.0
"""The same while a trial runs."""
_PATIENCE_TTLS = 10
"""For how many lease times an outcome is offered to a queue that cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    lease: Lease
    outcome: TrialOutcome
    give_up_at: float


class Outbox:
    """The outcomes of one slot that the queue has not taken yet."""

    def __init__(
        self,
        slot: Slot,
        leases: LeaseSource,
        results: ResultSink,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slot = slot
        self._leases = leases
        self._results = results
        self._clock = clock
        self._sleep = sleep
        self._letters: list[_Letter] = []
        self._retry_at = -math.inf

    @property
    def next_at(self) -> float:
        """When to offer what there is; infinite without anything."""
        return self._retry_at if self._letters else math.inf

    def put(self, lease: Lease, outcome: TrialOutcome) -> None:
        """Take an outcome in, to be offered at once; what was left besides is seen to first."""
        self._results.left(lease.spec)
        give_up_at = self._clock() + _PATIENCE_TTLS * lease.ttl_s
        self._letters.append(_Letter(lease=lease, outcome=outcome, give_up_at=give_up_at))
        self._retry_at = -math.inf

    def offer(self, most_s: float = math.inf) -> None:
        """Hand in, once and for so long at most, what there is.

        What nobody took long after its lease has ended is dropped.
        """
        until = self._clock() + most_s
        while self._letters and (left_s := until - self._clock()) > 0:
            first = self._letters[0]
            try:
                # False means that the trial is somebody else's by now: then theirs is the outcome.
                self._leases.complete(self._slot, first.lease, first.outcome, left_s)
            except ConnectionError:
                if self._clock() < first.give_up_at:
                    self._retry_at = self._clock() + _BESIDE_RETRY_S
                    return
            del self._letters[0]

    def empty(self) -> None:
        """Offer what there is until it is taken or given up."""
        self.offer()
        while self._letters:
            self._sleep(_RETRY_S)
            self.offer()
