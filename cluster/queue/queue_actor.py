"""The queue as workers see it: a named Ray actor on the controller's node, over the trial queue.

Workers need no route to Redis. A worker's call may hang while there is no work; that it then dies
loses nothing, since a lease that nobody heartbeats expires, and a newer worker on the same slot
ends the older one's lease and wait at once.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from cluster.ledger.ledger import LedgerAway, load
from cluster.ledger.progress import ProgressStore
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.ours import assert_ours
from cluster.queue.brief import NodeFacts, Order, Refusal
from cluster.queue.lease_watch import FIRST_TTLS, LeaseWatch
from cluster.queue.node_roll import NodeRoll, joined, refused
from cluster.queue.outage import AWAY, Door, needs_store
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state.event import Event
from cluster.state.events import Draft
from cluster.state.node_events import DrainRequested, NodeLeft
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.trial import SlotId, TrialOutcome, TrialSpec

POLL_S = 0.01
"""How often the store is asked for work while workers wait."""
IDLE_POLL_S = 0.05
"""The same, once they have waited for a second."""
EXPIRE_S = 1.0
"""How often leases are looked over."""


QUEUE = "queue"
"""Name of the actor, in the study's namespace."""
SILENT_TTLS = 3
"""Slots and nodes of which nothing was heard for so many lease times are gone."""
ANSWER_S = 3.0
"""How long the store may take for an answer, while nobody else gets one: then it is away."""
UNHEARD = "the ledger's server went away as it was leased"
NEVER_CAME = "the slot never heard of its lease"
_log = logging.getLogger("incumbent")
_steady = time.monotonic


def _now() -> datetime:
    return datetime.now(UTC)


class QueueActor(Door):
    """See trainer.ports.LeaseSource; every method may raise LedgerAway."""

    def __init__(self, url: str, study: str, lease_s: float) -> None:
        assert_ours()
        answer_s = min(ANSWER_S, lease_s / 3)
        store = RedisStore(connect(url, patience_s=answer_s, answer_s=answer_s), study)
        super().__init__()
        self._queue = RedisTrialQueue(store)
        self._watch = LeaseWatch(self._queue, now=_now, steady=_steady)
        self._progress = ProgressStore(store)
        self._ttl_s = lease_s
        self._ledger = RedisLedger(store)
        self._seen: dict[SlotId, tuple[Slot, float]] = {}
        self._orders: dict[SlotId, object] = {}
        """By which call each slot asked for work last."""
        self._gone: dict[SlotId, str] = {}
        """Slots that are forgotten, and why, until their end is in the ledger."""
        self._roll = NodeRoll()
        self._left: dict[str, NodeLeft] = {}
        """The same of nodes."""
        self._has_roll = False
        self._work = asyncio.Event()
        self._waiting = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to look for work and for silent workers; calling it again does nothing."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._watch_for_work()),
                asyncio.create_task(self._watch_for_silence()),
            ]

    @needs_store
    async def hello(self, slot: Slot) -> None:
        """Announce a slot, which runs nothing: its leases are given back, its orders are void."""
        await self._meet(slot)
        self._orders.pop(slot.id, None)
        for held in self._queue.held():
            if (held.slot, held.incarnation) == (slot.id, slot.incarnation):
                self._queue.give_back(held, NEVER_CAME, now=_now())

    @needs_store
    async def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        """Return work, waiting for it at most `wait_s` seconds; a slot with a note gets none."""
        await self._meet(slot)
        order = self._orders[slot.id] = object()
        deadline = time.monotonic() + wait_s
        while True:
            mode = self._queue.mode(slot.node)
            if mode is QueueMode.DRAINING or self._roll.is_leaving(slot.node):
                return NoWork.STOP
            if self._orders.get(slot.id) is not order:
                return NoWork.WAIT  # nobody waits for it any more, or a newer worker has the slot
            is_over = time.monotonic() >= deadline
            if mode is QueueMode.OPEN and not slot.note:
                # What avoids its node it takes when it has waited: so others come first.
                lease = self._queue.lease(
                    slot, now=_now(), ttl_s=FIRST_TTLS * self._ttl_s, even_avoiding=is_over
                )
                if lease is not None:
                    self.outage.confirm(slot, lease.token)
                    return replace(lease, ttl_s=self._ttl_s)
            if is_over:
                return NoWork.WAIT
            await self._something_new(deadline)
            self.outage.check()  # of all that waited, one finds out: the next has no need to ask

    @needs_store
    async def reserve(self, slot: Slot) -> TrialSpec | None:
        """Name the trial that a busy slot should prepare, if the idle ones leave it any."""
        await self._meet(slot)
        is_leaving = self._roll.is_leaving(slot.node)
        if is_leaving or self._waiting >= self._queue.depth().ready:
            return None
        return self._queue.reserve(slot, now=_now(), ttl_s=self._ttl_s)

    @needs_store
    async def adopt(self, lease_s: float) -> None:
        """Serve a new controller: take its lease time, and present the slots that are alive."""
        await self.start()
        self._ttl_s = lease_s
        for slot, _ in self._seen.values():
            self._queue.greet(slot, now=_now())

    async def _meet(self, slot: Slot) -> None:
        """Note that a slot is alive, and greet one that this process does not know.

        While a study drains, its workers come and go every other second: that is no news.
        """
        known = self._seen.get(slot.id)
        if known is None or known[0] != slot:
            await self.start()
            self._record_ends()  # its own among them, which is over with this
            self._queue.greet(slot, now=_now())
        self._seen[slot.id] = (slot, time.monotonic())

    async def _something_new(self, deadline: float) -> None:
        self._waiting += 1
        try:
            left = max(0.0, deadline - time.monotonic())
            await asyncio.wait_for(self._work.wait(), timeout=left)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def _watch_for_work(self) -> None:
        """Wake the waiting workers when there is work or the mode has changed."""
        mode, ready = QueueMode.OPEN, 0
        quiet_since = time.monotonic()
        while True:
            is_quiet = time.monotonic() - quiet_since > 1.0
            await asyncio.sleep(IDLE_POLL_S if is_quiet else POLL_S)
            if not self._waiting:
                continue
            if self.outage.reason:
                await asyncio.sleep(EXPIRE_S)
                continue
            try:
                before = mode, ready
                mode, ready = self._queue.mode(), self._queue.depth().ready
            except AWAY as error:
                self.outage.begin(error)
                continue
            except Exception:  # noqa: BLE001
                # Without this task workers would find work only as they ask anew, seconds later.
                _log.exception("it could not be seen whether there is work")
                continue
            # What waits may be meant for other slots: then it is looked at, but there is no hurry.
            if (mode, ready) != before:
                quiet_since = time.monotonic()
            if (mode is QueueMode.OPEN and ready) or mode is not before[0]:
                self._work.set()
                self._work = asyncio.Event()

    async def _watch_for_silence(self) -> None:
        """Expire leases, and close slots that nothing was heard of."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            try:
                if not self.outage.reason or await self._is_back():
                    self._look_for_silence()
            except AWAY as error:
                self.outage.begin(error)
            except Exception:  # noqa: BLE001
                # Without this task no lease would ever run out, and the study would wait for ever.
                _log.exception("leases could not be looked over")

    def _look_for_silence(self) -> None:
        self._watch.expire(self._ttl_s)
        for slot, (_, seen) in list(self._seen.items()):
            if time.monotonic() - seen > SILENT_TTLS * self._ttl_s:
                self._forget(slot, "fell silent")
        self._record_ends()
        if not self._has_roll:
            nodes = load(self._ledger).nodes.values()
            there = [node.node for node in nodes if node.status.is_there and node.joins]
            self._roll.expect(there, time.monotonic())
            self._has_roll = True
        for left in self._roll.silent(time.monotonic(), SILENT_TTLS * self._ttl_s):
            # With it all its slots are closed; those that live are to present themselves anew.
            for gone in [slot.id for slot, _ in self._seen.values() if slot.node == left.node]:
                del self._seen[gone]
            self._left[left.node] = left
        self._record_ends()

    async def _is_back(self) -> bool:
        """Ask a store that was away, without keeping anybody waiting; then renew all leases."""
        try:
            await asyncio.to_thread(self._queue.mode)
            self._watch.renew(self._ttl_s)  # as of now, not of when it was asked
            for held in self._queue.held():
                if self.outage.is_unheard(held.token):
                    self._queue.give_back(held, UNHEARD, now=_now())
        except AWAY as error:
            self.outage.begin(error)
            return False
        self.outage.end()
        return True

    async def heartbeat(self, slot: Slot, lease: Lease, progress: Progress) -> Heartbeat:
        """Extend a lease and store how far its trial is; while the store is away, let it go on."""
        try:
            answer: Heartbeat = await self._extend(slot, lease, progress)
        except LedgerAway:
            if not self.outage.covers(slot, lease):
                raise
            if slot.id in self._seen:  # else its end may be recorded: it is greeted anew
                self._seen[slot.id] = (slot, time.monotonic())
            return Heartbeat.GO_ON
        return answer

    @needs_store
    async def _extend(self, slot: Slot, lease: Lease, progress: Progress) -> Heartbeat:
        await self._meet(slot)
        answer = self._queue.extend(slot, lease, now=_now(), ttl_s=self._ttl_s)
        if answer is Heartbeat.GONE:
            self.outage.revoke(slot)
        else:
            self.outage.confirm(slot, lease.token)
            self._progress.record(lease.spec, progress)
        return answer

    @needs_store
    async def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome) -> bool:
        """Commit an outcome, once."""
        await self._meet(slot)
        return self._queue.complete(slot, lease, outcome, now=_now())

    @needs_store
    async def goodbye(self, slot: Slot, reason: str) -> None:
        """Close a slot."""
        self._forget(slot.id, reason)
        self._record_ends()

    async def is_taken(self, node: NodeFacts) -> bool:
        """Say whether the head or another machine has a node's name; records nothing."""
        return self._roll.is_taken(node) or node.node == socket.gethostname()

    async def names(self) -> Mapping[str, str]:
        """Return which names `is_taken` would refuse, each with the id that may have it."""
        return {**self._roll.names(), socket.gethostname(): ""}

    async def beat(self, node: NodeFacts) -> Order:
        """Take it that a node lives, welcome one that is new, and tell it what is wanted of it."""
        try:
            order: Order = await self._beat(node)
        except LedgerAway:
            if not self._roll.is_known(node):
                raise
            self._roll.beat(node, time.monotonic())
            return Order.GO_ON
        return order

    @needs_store
    async def _beat(self, node: NodeFacts) -> Order:
        await self.start()
        if await self.is_taken(node):
            return Order.TAKEN
        study, own = self._queue.mode(), self._queue.mode(node.node)
        if not self._roll.is_known(node):
            self._record_ends()
            self._record(node.node, joined(node))
        self._roll.beat(node, time.monotonic())
        is_drained = own is not study and own is QueueMode.DRAINING
        return Order.LEAVE if is_drained or self._roll.is_leaving(node.node) else Order.GO_ON

    @needs_store
    async def part(self, node: str, reason: str) -> None:
        """Take it that a node is leaving; its workers have ended, and its slots are gone."""
        for held in self._queue.held():
            if held.node == node:
                self._queue.give_back(held, f"{node} left: {reason}", now=_now())
        for slot in [slot for slot, _ in self._seen.values() if slot.node == node]:
            self._forget(slot.id, reason)
        if (left := self._roll.part(node, reason)) is not None:
            self._left[node] = left
        self._record_ends()

    @needs_store
    async def drain(self, node: str) -> None:
        """Let a node go that asks to leave, whether or not there is a controller to say so."""
        if not self._roll.is_leaving(node):
            self._record(node, DrainRequested(node=node))
            self._roll.leave(node)

    @needs_store
    async def refuse(self, refusal: Refusal) -> None:
        """Record that a machine does not fit."""
        self._record(refusal.node, refused(refusal))

    def _forget(self, slot: SlotId, reason: str) -> None:
        """Forget a slot, but for what is to be recorded of its end."""
        if self._seen.pop(slot, None) is not None:
            self._gone[slot] = reason

    def _record_ends(self) -> None:
        """Record which slots and nodes are gone; what cannot be recorded waits for the next look.

        One that is in the ledger though the server's answer was lost is recorded twice: that
        changes nothing.
        """
        for slot, reason in list(self._gone.items()):
            self._queue.close_slot(slot, reason, now=_now())
            del self._gone[slot]
        for node, left in list(self._left.items()):
            self._record(node, left)
            del self._left[node]

    def _record(self, node: str, event: Event) -> None:
        now = _now()
        name = f"node/{node}/{type(event).__name__}/{now.timestamp():.6f}"
        self._ledger.tell(Draft(id=name, at=now, event=event))

    @needs_store
    async def ping(self) -> bool:
        """Say that the actor is up and reaches its store; raises LedgerAway."""
        await self.start()
        self._queue.mode()
        return True
