"""The queue of trials: leases with fencing tokens over the ledger. Port and in-memory version."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from cluster.ledger.ledger import InMemoryLedger
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
from cluster.state.events import Draft
from trainer.ports import Heartbeat, Lease, Slot
from trainer.trial import SlotId, TrialId, TrialOutcome, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease as the queue remembers it."""

    spec: TrialSpec
    token: int
    slot: SlotId
    incarnation: str
    node: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How much work there is."""

    ready: int
    running: int


class TrialQueue(Protocol):
    """Trials that wait for a slot or are on one.

    Every change of a trial's place and the event that tells of it are one atomic step: a trial is
    never leased without TrialStarted, and a result is either recorded and its lease gone, or
    neither. Tokens only grow; whoever comes with an old one is told so and changes nothing. Where a
    server has lost data, they begin anew: so a lease is known by who holds it and of what, too.
    Highest priority first, then first come, first served, but for what slots have reserved: see
    cluster.queue.reservations. A reserved trial still waits. A trial that is meant for certain
    slots (TrialSpec.place) is never handed to another, nor does it hold one up; slots of a node
    that it avoids get it when nothing else waits for them. All methods raise LedgerAway while the
    server is gone, and may be repeated afterwards.
    """

    def put(self, spec: TrialSpec, *, priority: int, now: datetime, epoch: int) -> None:
        """Queue a trial and record TrialQueued; does nothing if that attempt is known already."""
        ...

    def lease(
        self, slot: Slot, *, now: datetime, ttl_s: float, even_avoiding: bool = True
    ) -> Lease | None:
        """Take the first trial for `slot`; None without one, or unless its node's mode is OPEN.

        Without `even_avoiding` none that avoids its node.
        """
        ...

    def reserve(self, slot: Slot, *, now: datetime, ttl_s: float) -> TrialSpec | None:
        """Return the trial that a busy slot should prepare, without the right to run it.

        None if there is none for it, or its node's mode is not OPEN. The reservation, the slot's
        only one, is kept for `ttl_s` seconds, until it asks again, or until it leases a trial.
        """
        ...

    def extend(self, slot: Slot, lease: Lease, *, now: datetime, ttl_s: float) -> Heartbeat:
        """Keep a lease alive and learn whether the trial is still wanted."""
        ...

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, *, now: datetime) -> bool:
        """Record an outcome and end its lease; False, and no change, unless the slot holds that.

        An outcome that ended LOST is recorded as TrialLost: the trial may run again.
        """
        ...

    def give_back(self, held: Held, reason: str, *, now: datetime) -> bool:
        """End a lease as nobody's fault: the trial may run again. False if nobody holds it."""
        ...

    def cancel(self, trial: TrialId, *, now: datetime, epoch: int) -> None:
        """Take a trial out of the queue, recorded as CANCELLED; or mark its lease for it."""
        ...

    def withdraw(self, trial: TrialId, attempt: int, draft: Draft, *, epoch: int) -> bool:
        """Take an attempt that waits out of the queue, in one step with the event that tells why.

        False if it does not wait (any more): nothing has changed, and nothing was recorded.
        """
        ...

    def prune(self, trial: TrialId, *, epoch: int) -> None:
        """Have the next heartbeat of a trial's lease answered with PRUNE."""
        ...

    def give_back_all(self, *, epoch: int) -> None:
        """Have the next heartbeat of every lease answered with GIVE_BACK."""
        ...

    def expire(self, *, now: datetime, even_live: bool = False) -> int:
        """End leases that ran out, each recorded as TrialLost; return how many.

        With `even_live` all leases, for a study whose workers are gone.
        """
        ...

    def renew(self, *, now: datetime, ttl_s: float, most_s: float) -> None:
        """Have every lease last for `ttl_s` seconds from now at least, and `most_s` at most.

        To be called before `expire` once the server is back that was away: nobody could extend a
        lease meanwhile, and a trial that ran through it is not to be lost for that. And once the
        clock was set: what it was put forward by is not to end a lease, nor what it was put back
        by to prolong one.
        """
        ...

    def greet(self, slot: Slot, *, now: datetime) -> None:
        """Record SlotOpened; leases that an earlier incarnation holds on the slot are lost."""
        ...

    def close_slot(self, slot: SlotId, reason: str, *, now: datetime) -> None:
        """Record SlotClosed; the slot's reservation ends."""
        ...

    def held(self) -> Sequence[Held]:
        """Return all leases."""
        ...

    def depth(self) -> Depth:
        """Return how many trials wait and run."""
        ...

    def set_mode(self, mode: QueueMode, *, epoch: int) -> None:
        """Say what workers are told when they ask for work."""
        ...

    def set_node_mode(self, node: str, mode: QueueMode, *, epoch: int) -> None:
        """Say what the workers of one node are told, unless the study's own mode is stricter."""
        ...

    def mode(self, node: str = "") -> QueueMode:
        """Return what workers are told when they ask for work; OPEN to begin with.

        Those of a node: the stricter of the study's mode and the node's.
        """
        ...


class InMemoryTrialQueue:
    """A queue that lives as long as its process."""

    def __init__(self, ledger: InMemoryLedger) -> None:
        self._ledger = ledger
        self._ready: list[tuple[int, int, TrialSpec]] = []
        self._reserved: dict[SlotId, tuple[TrialSpec, datetime]] = {}
        self._known: set[tuple[TrialId, int]] = set()
        self._leases: dict[int, Held] = {}
        self._answers: dict[int, Heartbeat] = {}
        self._count = 0
        self._mode = QueueMode.OPEN
        self._node_modes: dict[str, QueueMode] = {}

    def put(self, spec: TrialSpec, *, priority: int, now: datetime, epoch: int) -> None:
        """See TrialQueue."""
        self._ledger.append([queued_event(spec, now)], epoch=epoch)
        if (spec.trial, spec.attempt) not in self._known:
            self._known.add((spec.trial, spec.attempt))
            self._count += 1
            self._ready.append((-priority, self._count, spec))
            self._ready.sort(key=lambda item: item[:2])

    def lease(
        self, slot: Slot, *, now: datetime, ttl_s: float, even_avoiding: bool = True
    ) -> Lease | None:
        """See TrialQueue."""
        spec = self._pick(chosen if even_avoiding else preferred, slot, now)
        if spec is None:
            return None
        self._ready = [item for item in self._ready if item[2] != spec]
        self._reserved.pop(slot.id, None)
        self._count += 1
        held = Held(
            spec=spec,
            token=self._count,
            slot=slot.id,
            incarnation=slot.incarnation,
            node=slot.node,
            expires_at=now + timedelta(seconds=ttl_s),
        )
        self._leases[held.token] = held
        self._ledger.append([started_event(spec, slot, now)])
        return Lease(spec=spec, token=held.token, ttl_s=ttl_s)

    def reserve(self, slot: Slot, *, now: datetime, ttl_s: float) -> TrialSpec | None:
        """See TrialQueue."""
        spec = self._pick(to_prepare, slot, now)
        self._reserved.pop(slot.id, None)
        if spec is not None:
            self._reserved[slot.id] = (spec, now + timedelta(seconds=ttl_s))
        return spec

    def _pick(self, choose: Choose[TrialSpec], slot: Slot, now: datetime) -> TrialSpec | None:
        if self.mode(slot.node) is not QueueMode.OPEN:
            return None
        reserved = {spec: who for who, (spec, until) in self._reserved.items() if until > now}
        waiting = [
            (spec, LAST if spec.place.avoids(slot.node) else rank)
            for rank, _, spec in self._ready
            if spec.place.admits(slot.id, slot.device_class)
        ]
        return choose(waiting, reserved, slot.id)

    def extend(self, slot: Slot, lease: Lease, *, now: datetime, ttl_s: float) -> Heartbeat:
        """See TrialQueue."""
        if not self._is_held(lease, slot.incarnation):
            return Heartbeat.GONE
        held = self._leases[lease.token]
        self._leases[lease.token] = replace(held, expires_at=now + timedelta(seconds=ttl_s))
        return self._answers.get(lease.token, Heartbeat.GO_ON)

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, *, now: datetime) -> bool:
        """See TrialQueue."""
        return self._end(lease, slot.incarnation, ended_event(lease.spec, outcome, now))

    def give_back(self, held: Held, reason: str, *, now: datetime) -> bool:
        """See TrialQueue."""
        draft = lost_event(held.spec, reason, now, is_given_back=True)
        return self._end(held, held.incarnation, draft)

    def _is_held(self, lease: Lease | Held, incarnation: str) -> bool:
        held = self._leases.get(lease.token)
        known = held and (held.incarnation, held.spec.trial, held.spec.attempt)
        return known == (incarnation, lease.spec.trial, lease.spec.attempt)

    def _end(self, lease: Lease | Held, incarnation: str, draft: Draft) -> bool:
        if not self._is_held(lease, incarnation):
            return False
        del self._leases[lease.token]
        self._answers.pop(lease.token, None)
        self._ledger.append([draft])
        return True

    def cancel(self, trial: TrialId, *, now: datetime, epoch: int) -> None:
        """See TrialQueue."""
        for item in self._ready:
            if item[2].trial == trial:
                self._ledger.append([ended_event(item[2], cancelled(), now)], epoch=epoch)
                self._ready.remove(item)
                return
        for token, held in self._leases.items():
            if held.spec.trial == trial:
                self._answers[token] = Heartbeat.CANCEL

    def withdraw(self, trial: TrialId, attempt: int, draft: Draft, *, epoch: int) -> bool:
        """See TrialQueue."""
        for item in self._ready:
            if (item[2].trial, item[2].attempt) == (trial, attempt):
                self._ledger.append([draft], epoch=epoch)
                self._ready.remove(item)
                return True
        return False

    def prune(self, trial: TrialId, *, epoch: int) -> None:  # noqa: ARG002 - one controller
        """See TrialQueue."""
        for token, held in self._leases.items():
            if held.spec.trial == trial:
                self._answers[token] = Heartbeat.PRUNE

    def give_back_all(self, *, epoch: int) -> None:  # noqa: ARG002 - one process, one controller
        """See TrialQueue."""
        self._answers = dict.fromkeys(self._leases, Heartbeat.GIVE_BACK)

    def expire(self, *, now: datetime, even_live: bool = False) -> int:
        """See TrialQueue."""
        over = [held for held in self._leases.values() if even_live or held.expires_at <= now]
        for held in over:
            self._lose(held, f"{held.slot} fell silent", now)
        return len(over)

    def renew(self, *, now: datetime, ttl_s: float, most_s: float) -> None:
        """See TrialQueue."""
        least, most = now + timedelta(seconds=ttl_s), now + timedelta(seconds=most_s)
        for token, held in self._leases.items():
            ends = min(max(held.expires_at, least), most)
            self._leases[token] = replace(held, expires_at=ends)

    def _lose(self, held: Held, reason: str, now: datetime) -> None:
        self._end(held, held.incarnation, lost_event(held.spec, reason, now))

    def greet(self, slot: Slot, *, now: datetime) -> None:
        """See TrialQueue."""
        self._ledger.append([opened_event(slot, now)])
        for held in list(self._leases.values()):
            if held.slot == slot.id and held.incarnation != slot.incarnation:
                self._lose(held, f"the worker on {slot.id} was replaced", now)

    def close_slot(self, slot: SlotId, reason: str, *, now: datetime) -> None:
        """See TrialQueue."""
        self._reserved.pop(slot, None)
        self._ledger.append([closed_event(slot, reason, now)])

    def held(self) -> Sequence[Held]:
        """See TrialQueue."""
        return list(self._leases.values())

    def depth(self) -> Depth:
        """See TrialQueue."""
        return Depth(ready=len(self._ready), running=len(self._leases))

    def set_mode(self, mode: QueueMode, *, epoch: int) -> None:  # noqa: ARG002 - as above
        """See TrialQueue."""
        self._mode = mode

    def set_node_mode(self, node: str, mode: QueueMode, *, epoch: int) -> None:  # noqa: ARG002
        """See TrialQueue."""
        self._node_modes[node] = mode

    def mode(self, node: str = "") -> QueueMode:
        """See TrialQueue."""
        return self._mode.stricter(self._node_modes.get(node, QueueMode.OPEN))
