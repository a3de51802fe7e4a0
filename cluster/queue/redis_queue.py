"""The trial queue over Redis; a change and the event that tells of it are one script."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from cluster.ledger.codec import encode_draft, from_json, to_json
from cluster.ledger.progress import ProgressStore
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, translated
from cluster.queue.queue_events import (
    cancelled,
    closed_event,
    ended_event,
    lost_event,
    opened_event,
    queued_event,
    started_event,
)
from cluster.queue.queue_mode import QueueMode
from cluster.queue.reservations import LAST, Choose, chosen, preferred, to_prepare
from cluster.queue.trial_queue import Depth, Held
from cluster.state.events import Draft
from trainer.ports import Heartbeat, Lease, Slot
from trainer.trial import Place, SlotId, TrialId, TrialOutcome, TrialSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _LeaseEntry:
    """What the `leases` hash holds; token and expiry stand elsewhere."""

    spec: TrialSpec
    slot: SlotId
    incarnation: str
    node: str


_LeaseId = tuple[int, str, str]
"""What scripts know a lease by: token, incarnation, TRIAL|ATTEMPT."""
CLOSED = -1
"""What lease.lua answers while the slot is to start no trial."""


class RedisTrialQueue:
    """See cluster.queue.trial_queue.TrialQueue for the contract."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._ledger = RedisLedger(store)
        self._progress = ProgressStore(store)

    def put(self, spec: TrialSpec, *, priority: int, now: datetime, epoch: int) -> None:
        """See TrialQueue."""
        draft = queued_event(spec, now)
        place = spec.place
        where = f"{place.slot}@{place.avoid}" if place.avoid else place.slot
        tag = "" if place == Place() else f"|{where}|{place.device_class}"
        about = (_attempt_of(spec), to_json(spec), -priority, tag)
        self._store.run("put", self._store.claim(epoch), draft.id, encode_draft(draft), *about)

    def lease(
        self, slot: Slot, *, now: datetime, ttl_s: float, even_avoiding: bool = True
    ) -> Lease | None:
        """See TrialQueue."""
        choose: Choose[bytes] = chosen if even_avoiding else preferred
        while (first := self._pick(choose, slot, now)) is not None:
            member, spec = first
            entry = _LeaseEntry(
                spec=spec, slot=slot.id, incarnation=slot.incarnation, node=slot.node
            )
            draft = started_event(spec, slot, now)
            expiry = now.timestamp() + ttl_s
            held = (member, attempt_in(member), to_json(entry), expiry)
            where = (slot.id, _mode_of(slot.node))
            token = self._store.run("lease", *held, *where, draft.id, encode_draft(draft))
            if token == CLOSED:
                return None
            if token:
                return Lease(spec=spec, token=cast("int", token), ttl_s=ttl_s)
        return None

    def reserve(self, slot: Slot, *, now: datetime, ttl_s: float) -> TrialSpec | None:
        """See TrialQueue."""
        is_open = self.mode(slot.node) is QueueMode.OPEN
        first = self._pick(to_prepare, slot, now) if is_open else None
        wish, spec = b"", None
        if first is not None:
            member, spec = first
            wish = f"{now.timestamp() + ttl_s!r}|".encode() + member
        is_kept = self._store.run("reserve", slot.id, _mode_of(slot.node), wish)
        return spec if is_kept else None

    def _pick(
        self, choose: Choose[bytes], slot: Slot, now: datetime
    ) -> tuple[bytes, TrialSpec] | None:
        """Return a waiting trial for the slot, as a member of `ready`; None without one."""
        while True:
            if (wished := self._wish(slot, now)) is not None:
                return wished
            reserved = self._reserved(now)
            member = choose(self._waiting(reserved, slot), reserved, slot.id)
            if member is None:
                return None
            if (spec := self._spec(member)) is not None:  # else it was leased meanwhile
                return member, spec

    def _wish(self, slot: Slot, now: datetime) -> tuple[bytes, TrialSpec] | None:
        """Return what the slot has reserved if nothing goes before it: then nothing else matters.

        That is the answer nearly always, and it costs the same however many slots there are.
        """
        with translated():
            wish = cast("bytes | None", self._store.client.hget(self._key("reserved"), slot.id))
        until, _, member = (wish or b"0|").partition(b"|")
        if float(until) <= now.timestamp() or not _admits(slot, member):
            return None
        with translated():
            rank = self._store.client.zscore(self._key("ready"), member)
        if rank is None or any(before < rank for _, before in self._head(slot, 1)):
            return None
        spec = self._spec(member)
        return None if spec is None else (member, spec)

    def _waiting(self, reserved: Mapping[bytes, SlotId], slot: Slot) -> list[tuple[bytes, float]]:
        """Return the head of the queue, as far as a choice depends on it, with the slot's wish."""
        wishes = [
            member
            for member, owner in reserved.items()
            if owner == slot.id and _admits(slot, member)
        ]
        waiting = self._head(slot, len(reserved) + 1)
        known = {member for member, _ in waiting}
        wishes = [member for member in wishes if member not in known]
        if not wishes:
            return waiting
        with translated():
            ranks = self._store.client.zmscore(self._key("ready"), cast("list[str]", wishes))
        found = zip(wishes, ranks, strict=True)
        return waiting + [(member, rank) for member, rank in found if rank is not None]

    def _head(self, slot: Slot, count: int) -> list[tuple[bytes, float]]:
        """Return the first `count` trials that the slot may run, or as many as there are.

        Those that avoid its node come after all others, as LAST.
        """
        found: list[tuple[bytes, float]] = []
        avoiding: list[tuple[bytes, float]] = []
        start, size = 0, count
        while len(found) < count:
            with translated():
                page = self._store.client.zrange(
                    self._key("ready"), start, start + size - 1, withscores=True
                )
            ranked = cast("list[tuple[bytes, float]]", page)
            for member, rank in ranked:
                if not _admits(slot, member):
                    continue
                if _place_of(member).avoids(slot.node):
                    avoiding.append((member, LAST))
                else:
                    found.append((member, rank))
            if len(page) < size:
                break
            start, size = start + size, 4 * size
        return (found + avoiding)[:count]

    def _reserved(self, now: datetime) -> dict[bytes, SlotId]:
        with translated():
            wishes = self._store.client.hgetall(self._key("reserved"))
        found: dict[bytes, SlotId] = {}
        for owner, wish in cast("dict[bytes, bytes]", wishes).items():
            until, _, member = wish.partition(b"|")
            if float(until) > now.timestamp():
                found[member] = SlotId(owner.decode())
        return found

    def _spec(self, member: bytes) -> TrialSpec | None:
        with translated():
            found = self._store.client.hget(self._key("specs"), attempt_in(member))
        payload = cast("bytes | None", found)
        return None if payload is None else from_json(TrialSpec, payload)

    def _members(self) -> list[bytes]:
        with translated():
            return cast("list[bytes]", self._store.client.zrange(self._key("ready"), 0, -1))

    def _key(self, name: str) -> str:
        return self._store.key(name)

    def extend(self, slot: Slot, lease: Lease, *, now: datetime, ttl_s: float) -> Heartbeat:
        """See TrialQueue."""
        expiry = now.timestamp() + ttl_s
        answer = self._store.run("extend", *_lease_id(lease, slot.incarnation), expiry)
        return Heartbeat(cast("bytes", answer).decode())

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, *, now: datetime) -> bool:
        """See TrialQueue."""
        return self._end(_lease_id(lease, slot.incarnation), ended_event(lease.spec, outcome, now))

    def give_back(self, held: Held, reason: str, *, now: datetime) -> bool:
        """See TrialQueue."""
        draft = lost_event(held.spec, reason, now, is_given_back=True)
        return self._end(_lease_id(held, held.incarnation), draft)

    def _end(self, lease: _LeaseId, draft: Draft, latest_expiry: float | None = None) -> bool:
        latest = "" if latest_expiry is None else repr(latest_expiry)
        is_over = bool(self._store.run("end", *lease, draft.id, encode_draft(draft), latest))
        if is_over:
            self._progress.forget(TrialId(lease[2].partition("|")[0]))
        return is_over

    def cancel(self, trial: TrialId, *, now: datetime, epoch: int) -> None:
        """See TrialQueue."""
        for member in self._members():
            is_of_trial = attempt_in(member).partition(b"|")[0] == trial.encode()
            if is_of_trial and self._cancel(member, now, epoch):
                return
        self._answer(trial, Heartbeat.CANCEL, epoch)

    def prune(self, trial: TrialId, *, epoch: int) -> None:
        """See TrialQueue."""
        self._answer(trial, Heartbeat.PRUNE, epoch)

    def _answer(self, trial: TrialId, answer: Heartbeat, epoch: int) -> None:
        tokens = [held.token for held in self._holding(trial) if held.spec.trial == trial]
        self._store.run("answer", self._store.claim(epoch), answer.value, *tokens)

    def withdraw(self, trial: TrialId, attempt: int, draft: Draft, *, epoch: int) -> bool:
        """See TrialQueue."""
        wanted = f"{trial}|{attempt}".encode()
        found = (member for member in self._members() if attempt_in(member) == wanted)
        return any(self._take_out(member, draft, epoch) for member in found)

    def _cancel(self, member: bytes, now: datetime, epoch: int) -> bool:
        spec = self._spec(member)
        if spec is None:
            return False
        return self._take_out(member, ended_event(spec, cancelled(), now), epoch)

    def _take_out(self, member: bytes, draft: Draft, epoch: int) -> bool:
        args = (self._store.claim(epoch), member, attempt_in(member), draft.id, encode_draft(draft))
        return bool(self._store.run("cancel", *args))

    def give_back_all(self, *, epoch: int) -> None:
        """See TrialQueue."""
        tokens = [held.token for held in self.held()]
        self._store.run("answer", self._store.claim(epoch), Heartbeat.GIVE_BACK.value, *tokens)

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
        tokens = cast("list[str]", over)
        with translated():
            entries = cast(
                "list[bytes | None]", self._store.client.hmget(self._key("leases"), tokens)
            )
        found = zip(tokens, entries, strict=True)
        lost = [(int(token), from_json(_LeaseEntry, entry)) for token, entry in found if entry]
        return sum(
            self._end(
                (token, entry.incarnation, _attempt_of(entry.spec)),
                lost_event(entry.spec, f"{entry.slot} fell silent", now),
                seconds,
            )
            for token, entry in lost
        )

    def renew(self, *, now: datetime, ttl_s: float, most_s: float) -> None:
        """See TrialQueue."""
        since = now.timestamp()
        self._store.run("renew", repr(since + ttl_s), repr(since + most_s))

    def greet(self, slot: Slot, *, now: datetime) -> None:
        """See TrialQueue."""
        self._ledger.tell(opened_event(slot, now))
        for held in self._holding(slot.id):
            if held.slot == slot.id and held.incarnation != slot.incarnation:
                reason = f"the worker on {slot.id} was replaced"
                self._end(_lease_id(held, held.incarnation), lost_event(held.spec, reason, now))

    def close_slot(self, slot: SlotId, reason: str, *, now: datetime) -> None:
        """See TrialQueue."""
        with translated():
            self._store.client.hdel(self._key("reserved"), slot)
        self._ledger.tell(closed_event(slot, reason, now))

    def held(self) -> Sequence[Held]:
        """See TrialQueue."""
        pipeline = self._store.client.pipeline(transaction=True)
        pipeline.hgetall(self._key("leases"))
        pipeline.zrange(self._key("expiry"), 0, -1, withscores=True)
        with translated():
            entries, expiries = pipeline.execute()
        seconds = {bytes(token): float(score) for token, score in expiries}
        return [_held(token, payload, seconds[token]) for token, payload in entries.items()]

    def _holding(self, word: str) -> list[Held]:
        """Return the leases whose record has a word in it; the server looks through all of them."""
        found = cast("list[bytes]", self._store.run("holding", f'"{word}"'))
        return [
            _held(token, payload, float(seconds))
            for token, payload, seconds in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

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
        self._store.run("mode", self._store.claim(epoch), mode.value, "mode")

    def set_node_mode(self, node: str, mode: QueueMode, *, epoch: int) -> None:
        """See TrialQueue."""
        self._store.run("mode", self._store.claim(epoch), mode.value, _mode_of(node))

    def mode(self, node: str = "") -> QueueMode:
        """See TrialQueue."""
        with translated():
            words = self._store.client.hmget(self._key("meta"), ["mode", _mode_of(node)])
        study, own = (
            QueueMode(word.decode()) if word else QueueMode.OPEN
            for word in cast("list[bytes | None]", words)
        )
        return study.stricter(own)


def _mode_of(node: str) -> str:
    """Return where in `meta` a node's mode stands."""
    return f"mode/{node}"


def spec_of_lease(payload: bytes) -> TrialSpec:
    """Return which trial an entry of the `leases` hash is of."""
    return from_json(_LeaseEntry, payload).spec


def _attempt_of(spec: TrialSpec) -> str:
    return f"{spec.trial}|{spec.attempt}"


def _lease_id(lease: Lease | Held, incarnation: str) -> _LeaseId:
    return lease.token, incarnation, _attempt_of(lease.spec)


def attempt_in(member: bytes) -> bytes:
    """Return TRIAL|ATTEMPT of COUNT|TRIAL|ATTEMPT, or of what says besides where it may run."""
    return b"|".join(member.split(b"|", 3)[1:3])


def _place_of(member: bytes) -> Place:
    _, _, _, *tag = member.split(b"|", 4)
    if not tag:
        return Place()
    where, device_class = (word.decode() for word in tag)
    only, _, avoid = where.partition("@")
    return Place(slot=SlotId(only), device_class=device_class, avoid=avoid)


def _admits(slot: Slot, member: bytes) -> bool:
    return _place_of(member).admits(slot.id, slot.device_class)


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
