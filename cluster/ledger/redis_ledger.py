"""The ledger as a Redis stream: one per study, entry ids `SEQ-0`."""

from collections.abc import Sequence
from typing import Any, cast

from cluster.ledger.codec import decode_event, decode_state, encode_draft, encode_state
from cluster.ledger.ledger import PAGE
from cluster.ledger.redis_store import RedisStore, translated
from cluster.state.events import Draft, Recorded
from cluster.state.state import StudyState


class RedisLedger:
    """See cluster.ledger.ledger.Ledger for the contract."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._events = store.key("events")
        self._snapshot = store.key("snapshot")

    def begin_epoch(self) -> int:
        """See Ledger."""
        with translated():
            return self._store.client.hincrby(self._store.key("meta"), "epoch", 1)

    def append(self, drafts: Sequence[Draft], *, epoch: int | None = None) -> int:
        """See Ledger."""
        args: list[str | bytes] = ["" if epoch is None else self._store.claim(epoch)]
        for draft in drafts:
            args += [draft.id, encode_draft(draft)]
        return cast("int", self._store.run("append", *args))

    def tell(self, draft: Draft) -> None:
        """Append what the queue saw by itself; raises Emptied where no controller ever began."""
        self._store.run("tell", draft.id, encode_draft(draft))

    def read(self, after: int, *, limit: int = PAGE) -> list[Recorded]:
        """See Ledger."""
        with translated():
            entries = self._store.client.xrange(self._events, min=f"{after + 1}-0", count=limit)
        found = [_decoded(entry) for entry in cast("list[Any]", entries)]
        if found and found[-1].seq > self._store.seen[0]:  # who reads older ones has seen no less
            self._store.seen = (found[-1].seq, found[-1].id)
        return found

    def get(self, seqs: Sequence[int]) -> list[Recorded]:
        """See Ledger."""
        pipeline = self._store.client.pipeline(transaction=False)
        for seq in seqs:
            pipeline.xrange(self._events, min=f"{seq}-0", max=f"{seq}-0")
        with translated():
            pages = pipeline.execute()
        for seq, page in zip(seqs, pages, strict=True):
            if not page:
                raise KeyError(seq)
        return [_decoded(page[0]) for page in pages]

    def wait(self, after: int, timeout_s: float) -> bool:
        """See Ledger."""
        milliseconds = max(1, int(timeout_s * 1000))
        with translated():
            found = self._store.client.xread(
                {self._events: f"{after}-0"}, count=1, block=milliseconds
            )
        return bool(found)

    def save_snapshot(self, state: StudyState) -> None:
        """See Ledger."""
        with translated():
            self._store.client.set(self._snapshot, encode_state(state))

    def load_snapshot(self) -> StudyState:
        """See Ledger."""
        with translated():
            payload = cast("bytes | None", self._store.client.get(self._snapshot))
        return decode_state(payload) if payload else StudyState()


def _decoded(entry: tuple[bytes, dict[bytes, bytes]]) -> Recorded:
    entry_id, fields = entry
    return decode_event(int(entry_id.partition(b"-")[0]), fields[b"e"])
