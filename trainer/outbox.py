"""Outcomes on their way to the queue, which may be away for a while.

Knows how long to go on offering one. Does not know what it says. While the next trial runs it must
not be waited for; when none runs, there is nothing better to do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.ports import Lease, LeaseSource, ResultSink, Slot
from trainer.trial import TrialOutcome

_RETRY_S = 0.5
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

    def put(self, lease: Lease, outcome: TrialOutcome) -> None:
        """Take an outcome in, and offer it; first of all what was left besides is seen to."""
        self._results.left(lease.spec)
        give_up_at = self._clock() + _PATIENCE_TTLS * lease.ttl_s
        self._letters.append(_Letter(lease=lease, outcome=outcome, give_up_at=give_up_at))
        self.offer()

    def offer(self) -> None:
        """Hand in, once, what there is; drop what nobody took long after its lease has ended."""
        while self._letters:
            first = self._letters[0]
            try:
                # False means that the trial is somebody else's by now: then theirs is the outcome.
                self._leases.complete(self._slot, first.lease, first.outcome)
            except ConnectionError:
                if self._clock() < first.give_up_at:
                    return
            del self._letters[0]

    def empty(self) -> None:
        """Offer what there is until it is taken or given up."""
        while self._letters:
            self._sleep(_RETRY_S)
            self.offer()
