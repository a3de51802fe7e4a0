"""The ledger: every event of a study, in order, for ever. Port and in-memory version."""

from collections.abc import Sequence
from typing import Protocol

from cluster.ledger.codec import decode_event, decode_state, encode_draft, encode_state
from cluster.state.events import Draft, Recorded
from cluster.state.state import StudyState
from cluster.state.transitions import apply

PAGE = 1000
"""Events that are read at once; fewer came back: there are no more."""
LOST_DATA = (
    "the ledger's server has lost its data while the study ran: `incumbent stop`, then bring them "
    "back, or `incumbent rebuild` makes a ledger of what git knows"
)
ROLLED_BACK = (
    "the ledger's server has lost the latest events while the study ran: bring them back, or "
    "`incumbent run` goes on with those that it has"
)


class Fenced(RuntimeError):
    """A writer whose epoch is over tried to append: another controller has taken over."""


class Emptied(Fenced):
    """The ledger that a writer has begun its epoch in is gone."""


class RolledBack(Fenced):
    """An event that was read is not in the ledger any more: what followed from it is void."""


class LedgerAway(ConnectionError):
    """The ledger's server does not answer; what was appended before is safe."""


class Ledger(Protocol):
    """An append-only sequence of events, numbered from 1 without gaps.

    Atomicity: one `append` is recorded as a whole or not at all. Idempotence: an event whose id is
    recorded already is skipped, so an append may be repeated after a failure to connect. Fencing:
    with an epoch, an append is refused with Fenced unless that epoch is the latest that was begun,
    and with RolledBack where the last event that was read here is not in the ledger any more.
    All methods raise LedgerAway while the server is gone, and SchemaError for what they cannot
    read.
    """

    def begin_epoch(self) -> int:
        """Begin the next epoch and return its number, from 1; earlier ones are fenced."""
        ...

    def append(self, drafts: Sequence[Draft], *, epoch: int | None = None) -> int:
        """Append events; return the sequence number of the last event in the ledger."""
        ...

    def read(self, after: int, *, limit: int = PAGE) -> list[Recorded]:
        """Return up to `limit` events that follow sequence number `after`."""
        ...

    def get(self, seqs: Sequence[int]) -> list[Recorded]:
        """Return the events with these numbers; raises KeyError if one does not exist."""
        ...

    def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until there is an event after `after`; False if there was none in time."""
        ...

    def save_snapshot(self, state: StudyState) -> None:
        """Store a state, so that later readers need only the events after `state.seq`."""
        ...

    def load_snapshot(self) -> StudyState:
        """Return the latest stored state; the empty state if there is none."""
        ...


class InMemoryLedger:
    """A ledger that lives as long as its process; what it returns went through the codec."""

    def __init__(self) -> None:
        self._payloads: list[bytes] = []
        self._ids: set[str] = set()
        self._epoch = 0
        self._snapshot = b""

    def begin_epoch(self) -> int:
        """See Ledger."""
        self._epoch += 1
        return self._epoch

    def append(self, drafts: Sequence[Draft], *, epoch: int | None = None) -> int:
        """See Ledger."""
        if epoch is not None and epoch != self._epoch:
            raise Fenced(f"epoch {epoch} is over, {self._epoch} has begun")
        for draft in drafts:
            if draft.id not in self._ids:
                self._ids.add(draft.id)
                self._payloads.append(encode_draft(draft))
        return len(self._payloads)

    def read(self, after: int, *, limit: int = PAGE) -> list[Recorded]:
        """See Ledger."""
        page = self._payloads[after : after + limit]
        return [decode_event(after + i, payload) for i, payload in enumerate(page, start=1)]

    def get(self, seqs: Sequence[int]) -> list[Recorded]:
        """See Ledger."""
        for seq in seqs:
            if not 1 <= seq <= len(self._payloads):
                raise KeyError(seq)
        return [decode_event(seq, self._payloads[seq - 1]) for seq in seqs]

    def wait(self, after: int, timeout_s: float) -> bool:  # noqa: ARG002 - nobody else can append
        """See Ledger; returns at once."""
        return len(self._payloads) > after

    def save_snapshot(self, state: StudyState) -> None:
        """See Ledger."""
        self._snapshot = encode_state(state)

    def load_snapshot(self) -> StudyState:
        """See Ledger."""
        return decode_state(self._snapshot) if self._snapshot else StudyState()


def following(ledger: Ledger, last: Recorded) -> list[Recorded]:
    """Return the events that follow the last one that was read, up to a PAGE of them.

    Raises:
        Emptied: no event is there any more.
        RolledBack: that one is gone, or another stands in its place, as after a server was started
            from an older copy: numbers that were read before are given out again.
    """
    found = ledger.read(last.seq - 1, limit=PAGE + 1)
    if not found or found[0].id != last.id:
        raise RolledBack(ROLLED_BACK) if ledger.read(0, limit=1) else Emptied(LOST_DATA)
    return found[1:]


def catch_up(ledger: Ledger, state: StudyState) -> StudyState:
    """Apply all events that `state` has not seen."""
    while True:
        events = ledger.read(state.seq)
        for recorded in events:
            state = apply(state, recorded)
        if len(events) < PAGE:
            return state


def load(ledger: Ledger) -> StudyState:
    """Return the state that the ledger's snapshot and events add up to."""
    return catch_up(ledger, ledger.load_snapshot())
