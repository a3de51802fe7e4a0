"""What the queue actor does while the store behind it does not answer.

It is the one door to the store, so a store that is away can have given no lease to anybody else: a
worker may go on with what it holds. It is told so at once, since a call that waited for the store
would keep the actor from answering all others. Results are refused until the store is back, and
their workers keep them.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from cluster.ledger.ledger import Emptied, LedgerAway
from cluster.ledger.redis_store import WrongServer
from trainer.ports import Lease, Slot
from trainer.trial import SlotId

AWAY = (LedgerAway, WrongServer, Emptied)
"""What the store raises that somebody has to put right, while workers wait."""

P = ParamSpec("P")
T = TypeVar("T")


class Outage:
    """Whether the store answers, and which leases were good when it last did."""

    def __init__(self) -> None:
        self.reason = ""
        """Why it does not answer; empty while it does."""
        self._good: dict[SlotId, tuple[str, int]] = {}
        self._latest = 0

    def check(self) -> None:
        """Raise LedgerAway while the store is known to be away."""
        if self.reason:
            raise LedgerAway(self.reason)

    def begin(self, error: LedgerAway | WrongServer | Emptied) -> None:
        """Note that the store has not answered, lets nobody in any more, or has lost its data."""
        self.reason = str(error)

    def end(self) -> None:
        """Note that it answers again."""
        self.reason = ""

    def confirm(self, slot: Slot, token: int) -> None:
        """Note that the store has just said that a slot holds a lease."""
        self._good[slot.id] = (slot.incarnation, token)
        self._latest = max(self._latest, token)

    def revoke(self, slot: Slot) -> None:
        """Note that it has said that it does not."""
        self._good.pop(slot.id, None)

    def covers(self, slot: Slot, lease: Lease) -> bool:
        """Say whether a lease is as good as it was, because nobody can have taken it away."""
        return bool(self.reason) and self._good.get(slot.id) == (slot.incarnation, lease.token)

    def is_unheard(self, token: int) -> bool:
        """Say whether a lease was granted to an order of ours whose answer never arrived.

        A server that is stopped reads, once it goes on, what was sent to it meanwhile. Tokens grow.
        """
        return 0 < self._latest < token


class Door:
    """Whose calls need the store."""

    def __init__(self) -> None:
        self.outage = Outage()


S = TypeVar("S", bound=Door)


def needs_store(
    call: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Any]:
    """Have a call raise LedgerAway at once while the store is known to be away.

    One that waits has to look again before it asks the store.
    """

    @wraps(call)
    async def guarded(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        self.outage.check()
        try:
            return await call(self, *args, **kwargs)
        except AWAY as error:
            # Whatever a server objects to that was good before, workers can do nothing but wait.
            self.outage.begin(error)
            raise LedgerAway(str(error)) from error

    return cast("Callable[Concatenate[S, P], Any]", guarded)
