"""The Ray side of a worker: one detached actor per slot, around trainer.worker.Worker.

Imports no torch: a worker's memory is what a study pays for each idle slot.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from cluster.ours import assert_ours
from cluster.transport.actor_handle import CALL_S, ActorHandle
from cluster.transport.node_repository import NodeRepository
from cluster.transport.ray_depot import RayDepot
from cluster.transport.remote_code import RemoteCode
from cluster.transport.remote_results import RemoteResults
from trainer.ports import CodeAway, CodeSource, Heartbeat, Lease, NoWork, Progress, ResultSink, Slot
from trainer.slot_parts import SlotParts, WorkerSettings, claim
from trainer.slots import Claim, Unavailable
from trainer.trial import SlotId, TrialOutcome, TrialSpec
from trainer.worker import Worker

RESERVE_S = 2.0
"""How long a call may take at most that may as well be left out."""
RETRY_S = 2.0


class RayLeaseSource:
    """trainer.ports.LeaseSource over the queue actor; a queue that is away is a ConnectionError."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._call = ActorHandle("the queue", find, raises=(ConnectionError,)).call

    def hello(self, slot: Slot) -> None:
        """See LeaseSource."""
        self._call("hello", slot)

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        """See LeaseSource."""
        found: Lease | NoWork = self._call("lease", slot, wait_s, patience_s=CALL_S + wait_s)
        return found

    def reserve(self, slot: Slot, patience_s: float) -> TrialSpec | None:
        """See LeaseSource."""
        found: TrialSpec | None = self._call("reserve", slot, patience_s=min(RESERVE_S, patience_s))
        return found

    def heartbeat(
        self, slot: Slot, lease: Lease, progress: Progress, patience_s: float
    ) -> Heartbeat:
        """See LeaseSource."""
        patience_s = min(CALL_S, patience_s)
        answer: Heartbeat = self._call("heartbeat", slot, lease, progress, patience_s=patience_s)
        return answer

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, patience_s: float) -> bool:
        """See LeaseSource."""
        patience_s = min(CALL_S, patience_s)
        accepted: bool = self._call("complete", slot, lease, outcome, patience_s=patience_s)
        return accepted


def _ways(settings: WorkerSettings) -> tuple[CodeSource | None, ResultSink | None]:
    """Return how code comes to a worker, and results to the head, where that is not here."""
    if not settings.node:
        return None, None
    here = NodeRepository(settings.paths.repository, pinned=settings.base)
    return RemoteCode(RayDepot(), here), RemoteResults.of(settings, RayDepot()).start()


class WorkerActor:
    """One slot's worker. `run` is its only long call and stays on the actor's main thread."""

    def __init__(self, settings: WorkerSettings) -> None:
        assert_ours()
        self._settings = settings
        self._incarnation = uuid.uuid4().hex[:12]

    def run(self) -> str:
        """Claim a device, then run trials until the study drains; return why it ended."""
        source = RayLeaseSource(lambda: ray.get_actor("queue"))
        claimed = self._claim(source)
        if claimed is not None:
            try:
                self._worker(claimed, source).run()
            finally:
                claimed.release()
        return "drained"

    def _worker(self, claimed: Claim, source: RayLeaseSource) -> Worker:
        """Prepare the slot; a head that does not answer is waited for."""
        code, results = _ways(self._settings)
        slot = self._slot(claimed)
        try:
            while True:
                with suppress(CodeAway):
                    parts = SlotParts(
                        self._settings, slot, uid=claimed.uid, code=code, results=results
                    )
                    return parts.worker(source)
                time.sleep(RETRY_S)
        except BaseException:
            if results is not None:
                results.close()
            raise

    def facts(self) -> dict[str, object]:
        """Return what tests ask of a worker process."""
        return {"pid": os.getpid(), "environment": dict(os.environ), "cwd": str(Path.cwd())}

    def _claim(self, source: RayLeaseSource) -> Claim | None:
        """Wait until a device is free of other studies and strangers; None if told to leave."""
        told = ""
        while isinstance(found := self._try_claim(), Unavailable):
            slot = self._slot(found)
            try:
                if told != found.reason:
                    source.hello(slot)
                    told = found.reason
                if source.lease(slot, 0.0) is NoWork.STOP:
                    return None
            except ConnectionError:
                told = ""
            time.sleep(RETRY_S)
        return found

    def _try_claim(self) -> Claim | Unavailable:
        return claim(self._settings, [int(index) for index in ray.get_gpu_ids()])

    def _slot(self, found: Claim | Unavailable) -> Slot:
        node = self._settings.node
        return Slot(
            id=SlotId(f"{node}/{found.name}" if node else found.name),
            incarnation=self._incarnation,
            node=node or socket.gethostname(),
            device=found.device,
            device_class=found.device_class,
            gpu_uuids=found.gpu_uuids if isinstance(found, Claim) else (),
            note=found.reason if isinstance(found, Unavailable) else "",
        )
