"""Workers in threads of the controller's own process, without Ray: for tests of the harness.

The same worker, worktrees and supervisors; only Ray and the queue actor are left out.
"""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cluster.config import StudyConfig
from cluster.controller.ports import FleetProblem
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from infra.local.study import OpenStudy
from trainer.environment import prepare
from trainer.gpu import NvmlSampler, mark_of
from trainer.gpu_watch import GpuWatch
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.sandbox.none import NoneSandbox
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, ExperimentId, SlotId, TrialOutcome, TrialSpec
from trainer.worker import Worker

TTL_S = 30.0
POLL_S = 0.01


class DirectLeases:
    """Leases straight from the store. Implements trainer.ports.LeaseSource."""

    def __init__(self, queue: RedisTrialQueue) -> None:
        self._queue = queue

    def hello(self, slot: Slot) -> None:
        """See LeaseSource."""
        self._queue.greet(slot, now=datetime.now(UTC))

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        """See LeaseSource."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if self._queue.mode() is QueueMode.DRAINING:
                return NoWork.STOP
            if found := self._queue.lease(slot, now=datetime.now(UTC), ttl_s=TTL_S):
                return found
            time.sleep(POLL_S)
        return NoWork.WAIT

    def reserve(self, slot: Slot, patience_s: float) -> TrialSpec | None:
        """See LeaseSource."""
        return self._queue.reserve(slot, now=datetime.now(UTC), ttl_s=TTL_S)

    def heartbeat(
        self, slot: Slot, lease: Lease, progress: Progress, patience_s: float
    ) -> Heartbeat:
        """See LeaseSource."""
        return self._queue.extend(slot, lease, now=datetime.now(UTC), ttl_s=TTL_S)

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, patience_s: float) -> bool:
        """See LeaseSource."""
        return self._queue.complete(slot, lease, outcome, now=datetime.now(UTC))


class StudyCode:
    """The study's own repository. Implements trainer.ports.CodeSource."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """See CodeSource."""
        return self._repository

    def lack(self) -> str:
        return ""

    def promoted(self) -> frozenset[ExperimentId]:
        return frozenset()


class ThreadFleet:
    """See cluster.controller.ports.Fleet."""

    def __init__(self, study: OpenStudy, config: StudyConfig) -> None:
        self._threads = [
            threading.Thread(target=_worker(study, config, number).run)
            for number in range(config.cluster.slots)
        ]

    def start(self) -> None:
        """See Fleet."""
        for thread in self._threads:
            thread.start()

    def check(self) -> Sequence[FleetProblem]:
        """See Fleet."""
        return ()

    def shutdown(self) -> None:
        """See Fleet; the queue tells workers to leave."""
        for thread in self._threads:
            thread.join()


def _worker(study: OpenStudy, config: StudyConfig, number: int) -> Worker:
    home = study.home
    name = SlotId(f"cpu-{number}")
    slot = Slot(id=name, incarnation="1", node="here", device="cpu", device_class="cpu")
    paths = WorkerPaths(study=home.directory, environments=home.environments)
    environment = prepare(
        config.trial,
        base=study.state().base_commit,
        repository=home.git,
        paths=paths,
        study=home.id,
    )
    materialiser = Materialiser(
        study=home.id,
        slot=slot,
        paths=paths,
        environment=environment,
        metric=config.metric.metric(),
        code=StudyCode(home.git),
        sandbox=NoneSandbox(),
    )
    queue = RedisTrialQueue(RedisStore(connect(study.server.url), home.id))
    return Worker(
        slot=slot,
        leases=DirectLeases(queue),
        materialiser=materialiser,
        supervisors=(Supervisor(), Supervisor()),
        gpus=GpuWatch(NvmlSampler(), (), mark_prefix=materialiser.mark_prefix, mark_of=mark_of),
    )
