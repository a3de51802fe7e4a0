"""Work that is known from the beginning, for workers without a queue: each trial is run once.

Knows which trials are left, and passes on what workers say of them. Does not know what the trials
are for. A trial that is lost for a reason of ours ends everything: trying again is up to people.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count

from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.trial import Ending, TrialOutcome, TrialSpec

_TTL_S = 60.0
"""Nobody else could take a lease over: it only says how often to beat."""


class FixedWork:
    """trainer.ports.LeaseSource over a list of trials; several workers may share it."""

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        *,
        finished: Callable[[TrialSpec, TrialOutcome], None],
        heard: Callable[[TrialSpec, Progress], None],
    ) -> None:
        """`finished` is told each outcome but LOST, `heard` where running trials stand.

        Both are called by workers, one at a time, and may raise ConnectionError: an outcome is then
        told again, for some minutes.
        """
        self._left = list(specs)
        self._finished = finished
        self._heard = heard
        self._tokens = count(1)
        self._lock = threading.Lock()
        self._is_over = False
        self.problem = ""
        """Why a trial was lost; empty if none was, or all were given back as asked."""

    def end(self) -> None:
        """Have trials given back that run, and hand out no more."""
        self._is_over = True

    def hello(self, slot: Slot) -> None:
        """See LeaseSource."""

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:  # noqa: ARG002 - all there is
        """See LeaseSource."""
        with self._lock:
            if slot.note:
                self._lost(slot.note)
            if self._is_over or not self._left:
                return NoWork.STOP
            return Lease(spec=self._left.pop(0), token=next(self._tokens), ttl_s=_TTL_S)

    def reserve(self, slot: Slot, patience_s: float) -> TrialSpec | None:  # noqa: ARG002 - no waiting
        """See LeaseSource."""
        with self._lock:
            return self._left[0] if self._left and not self._is_over else None

    def heartbeat(
        self,
        slot: Slot,  # noqa: ARG002 - every slot is as good
        lease: Lease,
        progress: Progress,
        patience_s: float,  # noqa: ARG002 - here nothing is waited for
    ) -> Heartbeat:
        """See LeaseSource."""
        # Nobody else can take a lease over: whoever cannot be told where a trial stands ends none.
        with self._lock, suppress(ConnectionError):
            self._heard(lease.spec, progress)
        return Heartbeat.GIVE_BACK if self._is_over else Heartbeat.GO_ON

    def complete(
        self,
        slot: Slot,  # noqa: ARG002 - as above
        lease: Lease,
        outcome: TrialOutcome,
        patience_s: float,  # noqa: ARG002 - as above
    ) -> bool:
        """See LeaseSource."""
        with self._lock:
            if outcome.ending is not Ending.LOST:
                self._finished(lease.spec, outcome)
            elif not outcome.is_given_back:
                self._lost(outcome.reason)
        return True

    def _lost(self, reason: str) -> None:
        self.problem = self.problem or reason
        self._is_over = True
