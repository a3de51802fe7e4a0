"""The trial queue over Redis; a change and the event that tells of it are one script."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from cluster.codec import encode_draft, from_json, to_json
from cluster.events import Draft
from cluster.redis_ledger import RedisLedger
from cluster.redis_store import RedisStore, translated
from cluster.trial_queue import (
    Depth,
    Held,
    QueueMode,
    cancelled,
    closed_event,
    ended_event,
    lost_event,
    opened_event,
    queued_event,
    started_event,
)
from trainer.ports import Heartbeat, Lease, Slot
from trainer.trial import SlotId, TrialId, TrialOutcome, TrialSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _LeaseEntry:
    """What the `leases` hash holds; token and expiry stand elsewhere."""

    spec: TrialSpec
    slot: SlotId
    incarnation: str
    node: str


CLOSED = -1
"""What lease.lua answers while no trial is to be started."""


class RedisTrialQueue:
    """See cluster.trial_queue.TrialQueue for the contract."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._ledger = RedisLedger(store)

    def put(self, spec: TrialSpec, *, priority: int, now: datetime, epoch: int) -> None:
        """See TrialQueue."""
        draft = queued_event(spec, now)
        key = f"{spec.trial}|{spec.attempt}"
        args = (str(epoch), draft.id, encode_draft(draft), key, to_json(spec), -priority)
        self._store.run("put", *args)

    def lease(self, slot: Slot, *, now: datetime, ttl_s: float) -> Lease | None:
        """See TrialQueue."""
        while (first := self._first()) is not None:
            member, key, spec = first
            entry = _LeaseEntry(
                spec=spec, slot=slot.id, incarnation=slot.incarnation, node=slot.node
            )
            draft = started_event(spec, slot, now)
            expiry = now.timestamp() + ttl_s
            token = self._store.run(
                "lease", member, key, to_json(entry), expiry, draft.id, encode_draft(draft)
            )
            if token == CLOSED:
                return None
            if token:
                return Lease(spec=spec, token=cast("int", token), ttl_s=ttl_s)
        return None

    def _first(self) -> tuple[bytes, bytes, TrialSpec] | None:
        """Return the trial at the head of the queue; None if there is none."""
        with translated():
            while members := self._members(0, 0):
                key = members[0].partition(b"|")[2]
                spec = cast("bytes | None", self._store.client.hget(self._key("specs"), key))
                if spec is not None:  # else it was leased between the two commands
                    return members[0], key, from_json(TrialSpec, spec)
        return None

    def _members(self, first: int, last: int) -> list[bytes]:
        return cast("list[bytes]", self._store.client.zrange(self._key("ready"), first, last))

    def _key(self, name: str) -> str:
        return self._store.key(name)

    def extend(self, slot: Slot, token: int, *, now: datetime, ttl_s: float) -> Heartbeat:
        """See TrialQueue."""
        expiry = now.timestamp() + ttl_s
        answer = cast("bytes", self._store.run("extend", token, slot.incarnation, expiry))
        return Heartbeat(answer.decode())

    def complete(self, token: int, outcome: TrialOutcome, *, now: datetime) -> bool:
        """See TrialQueue."""
        with translated():
            payload = cast("bytes | None", self._store.client.hget(self._key("leases"), str(token)))
        if payload is None:
            return False
        draft = ended_event(from_json(_LeaseEntry, payload).spec, outcome, now)
        return self._end(token, draft)

    def _end(self, token: int, draft: Draft, latest_expiry: float | None = None) -> bool:
        latest = "" if latest_expiry is None else repr(latest_expiry)
        return bool(self._store.run("end", token, draft.id, encode_draft(draft), latest))

    def cancel(self, trial: TrialId, *, now: datetime, epoch: int) -> None:
        """See TrialQueue."""
        with translated():
            members = self._members(0, -1)
        for member in members:
            key = member.partition(b"|")[2]
            if key.partition(b"|")[0] == trial.encode() and self._cancel(member, key, now, epoch):
                return
        tokens = [held.token for held in self.held() if held.spec.trial == trial]
        self._store.run("answer", str(epoch), Heartbeat.CANCEL.value, *tokens)

    def _cancel(self, member: bytes, key: bytes, now: datetime, epoch: int) -> bool:
        with translated():
            payload = cast("bytes | None", self._store.client.hget(self._key("specs"), key))
        if payload is None:
            return False
        draft = ended_event(from_json(TrialSpec, payload), cancelled(), now)
        args = (str(epoch), member, key, draft.id, encode_draft(draft))
        return bool(self._store.run("cancel", *args))

    def give_back_all(self, *, epoch: int) -> None:
        """See TrialQueue."""
        tokens = [held.token for held in self.held()]
        self._store.run("answer", str(epoch), Heartbeat.GIVE_BACK.value, *tokens)

    def expire(self, *, now: datetime, even_live: bool = False) -> int:
        """See TrialQueue."""
        seconds = float("inf") if even_live else now.timestamp()
        with translated():
            over = self._store.client.zrange(
                self._key("expiry"),
                "-inf",
                repr(seconds),
                byscore=True,
            )
        if not over:
            return 0
        lost = [
            held for held in self.held() if str(held.token).encode() in cast("list[bytes]", over)
        ]
        return sum(
            self._end(held.token, lost_event(held.spec, f"{held.slot} fell silent", now), seconds)
            for held in lost
        )

    def greet(self, slot: Slot, *, now: datetime) -> None:
        """See TrialQueue."""
        self._ledger.append([opened_event(slot, now)])
        for held in self.held():
            if held.slot == slot.id and held.incarnation != slot.incarnation:
                reason = f"the worker on {slot.id} was replaced"
                self._end(held.token, lost_event(held.spec, reason, now))

    def close_slot(self, slot: SlotId, reason: str, *, now: datetime) -> None:
        """See TrialQueue."""
        self._ledger.append([closed_event(slot, reason, now)])

    def held(self) -> Sequence[Held]:
        """See TrialQueue."""
        pipeline = self._store.client.pipeline(transaction=True)
        pipeline.hgetall(self._key("leases"))
        pipeline.zrange(self._key("expiry"), 0, -1, withscores=True)
        with translated():
            entries, expiries = pipeline.execute()
        seconds = {bytes(token): float(score) for token, score in expiries}
        return [_held(token, payload, seconds[token]) for token, payload in entries.items()]

    def depth(self) -> Depth:
        """See TrialQueue."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zcard(self._key("ready"))
        pipeline.hlen(self._key("leases"))
        with translated():
            ready, running = cast("list[int]", pipeline.execute())
        return Depth(ready=ready, running=running)

    def set_mode(self, mode: QueueMode, *, epoch: int) -> None:
        """See TrialQueue."""
        self._store.run("mode", str(epoch), mode.value)

    def mode(self) -> QueueMode:
        """See TrialQueue."""
        with translated():
            word = cast("bytes | None", self._store.client.hget(self._key("meta"), "mode"))
        return QueueMode(word.decode()) if word else QueueMode.OPEN


def _held(token: bytes, payload: bytes, seconds: float) -> Held:
    entry = from_json(_LeaseEntry, payload)
    return Held(
        spec=entry.spec,
        token=int(token),
        slot=entry.slot,
        incarnation=entry.incarnation,
        node=entry.node,
        expires_at=datetime.fromtimestamp(seconds, UTC),
    )
