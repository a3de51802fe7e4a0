"""A worker whose trials are imaginary: it calls the queue as trainer.worker does, and waits.

What it calls, and in which order, is the protocol of one slot: hello, lease, reserve and heartbeat
while a trial runs, the next lease before the outcome of the last one is handed in. What it leaves
out is all that a slot does by itself: git, processes, files. So what is measured with hundreds of
them is the control plane alone.
"""

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trainer.hold import MOST_HEARTBEAT_S, look_again_s
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.trial import Ending, SlotId, TrialOutcome, TrialSpec

LEASE_WAIT_S = 5.0
"""As in trainer.worker: how long it waits for work."""


class Leases(Protocol):
    """trainer.ports.LeaseSource for whoever must not block; the queue actor's own methods."""

    async def hello(self, slot: Slot) -> None:
        """See LeaseSource."""
        ...

    async def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        """See LeaseSource."""
        ...

    async def reserve(self, slot: Slot) -> TrialSpec | None:
        """See LeaseSource."""
        ...

    async def heartbeat(self, slot: Slot, lease: Lease, progress: Progress) -> Heartbeat:
        """See LeaseSource."""
        ...

    async def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome) -> bool:
        """See LeaseSource."""
        ...


@dataclass(slots=True, kw_only=True)
class Tally:
    """What workers saw of the queue, in milliseconds."""

    calls_ms: dict[str, list[float]] = field(default_factory=dict)
    """How long each kind of call took; of leases those alone that had no need to wait."""
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """From the end of a trial to the next lease in hand: when that was, in seconds since 1970, and
    the milliseconds."""

    def add(self, other: "Tally") -> None:
        """Count another worker's in."""
        for name, spans in other.calls_ms.items():
            self.calls_ms.setdefault(name, []).extend(spans)
        self.pauses += other.pauses


def imaginary_slot(number: int) -> Slot:
    """Return one of as many slots as are wanted."""
    name = SlotId(f"cpu-{number}")
    return Slot(id=name, incarnation="1", node="here", device="cpu", device_class="cpu")


class ImaginaryWorker:
    """One slot's loop."""

    def __init__(self, slot: Slot, leases: Leases, *, trial_s: float) -> None:
        self._slot = slot
        self._leases = leases
        self._trial_s = trial_s
        self._free_since: float | None = None
        self.tally = Tally()

    async def run(self) -> Tally:
        """Serve the slot until the queue says stop."""
        await self._leases.hello(self._slot)
        while (answer := await self._lease(LEASE_WAIT_S)) is not NoWork.STOP:
            while isinstance(answer, Lease):
                answer = await self._serve(answer)
        return self.tally

    async def _serve(self, lease: Lease) -> Lease | NoWork:
        """Wait for a trial's end, lease what was prepared meanwhile, and report."""
        is_prepared = await self._watch(lease)
        self._free_since = asked = time.perf_counter()
        answer: Lease | NoWork = NoWork.WAIT
        if is_prepared:
            answer = await self._lease(0.0)
            self._note("lease", asked)
        asked = time.perf_counter()
        await self._leases.complete(self._slot, lease, outcome_of(lease.spec, self._trial_s))
        self._note("complete", asked)
        return answer

    async def _lease(self, wait_s: float) -> Lease | NoWork:
        answer = await self._leases.lease(self._slot, wait_s)
        if isinstance(answer, Lease) and self._free_since is not None:
            pause_ms = 1000 * (time.perf_counter() - self._free_since)
            self.tally.pauses.append((time.time(), pause_ms))
            self._free_since = None
        return answer

    async def _watch(self, lease: Lease) -> bool:
        """Keep the lease alive for as long as the trial takes; say whether the next is ready."""
        start = now = time.perf_counter()
        interval_s = min(MOST_HEARTBEAT_S, lease.ttl_s / 3)
        prepare_at, beat_at, end = start, start + interval_s, start + self._trial_s
        is_prepared = False
        while True:
            if now >= prepare_at:
                is_prepared = await self._leases.reserve(self._slot) is not None
                self._note("reserve", now)
                after = time.perf_counter()
                prepare_at = after + look_again_s(
                    after - start, lease.ttl_s, is_prepared=is_prepared
                )
            if now >= beat_at:
                beat_at = now + interval_s
                asked = time.perf_counter()
                progress = Progress(elapsed_s=asked - start, points={"step": asked - start})
                await self._leases.heartbeat(self._slot, lease, progress)
                self._note("heartbeat", asked)
            now = time.perf_counter()
            if now >= end:
                return is_prepared
            await asyncio.sleep(max(0.0, min(prepare_at, beat_at, end) - now))
            now = time.perf_counter()

    def _note(self, call: str, since: float) -> None:
        self.tally.calls_ms.setdefault(call, []).append(1000 * (time.perf_counter() - since))


def outcome_of(spec: TrialSpec, trial_s: float) -> TrialOutcome:
    """Return what an imaginary trial scores: what its commit says, so that a tree scores alike."""
    value = zlib.crc32(spec.commit.encode()) / 2**32
    stages_s: Mapping[str, float] = {"train": trial_s}
    return TrialOutcome(ending=Ending.SCORED, value=value, exit_code=0, stages_s=stages_s)
