"""The Ray side of a worker: one detached actor per slot, around trainer.worker.Worker.

Imports no torch: a worker's memory is what a study pays for each idle slot.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cluster.ours import assert_ours
from eval.metric import Metric
from trainer.arrange_scorer import ScorerPlace, arrange_scorer
from trainer.card_memory import CardMemory
from trainer.compile_caches import CacheSeed
from trainer.config import ScoreConfig, TrialConfig
from trainer.disk_room import lack_of_room
from trainer.environment import Environment, prepare
from trainer.gpu import NvmlGpus, NvmlSampler, device_nodes, mark_of
from trainer.gpu_watch import GpuWatch
from trainer.limit_defaults import limits_for, machine_memory
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Heartbeat, Lease, LeaseSource, NoWork, Progress, Slot
from trainer.run_records import Limits
from trainer.sandbox.arrange import arrange
from trainer.sandbox.port import Sandbox
from trainer.scorer import PredictionScorer
from trainer.slots import Claim, Unavailable, claim_cpu, claim_gpus, with_user
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, SlotId, TrialOutcome, TrialSpec
from trainer.worker import Worker

CALL_S = 10.0
"""How long a call may take beyond its own wait before it counts as a failure to connect."""
RETRY_S = 2.0
RESERVE_S = 2.0
"""The same for what may as well be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told when it is made."""

    study: str
    base: CommitId
    paths: WorkerPaths
    trial: TrialConfig
    metric: Metric
    slots: int
    gpu_busy_mb: float
    editable: tuple[str, ...] = ()
    """Files that candidates may change; the others are looked at after each trial."""
    score: ScoreConfig | None = None
    """How predictions are scored, where they are."""
    number: int = 0
    """Which of the study's workers it is."""


class RayLeaseSource:
    """trainer.ports.LeaseSource over the queue actor; a queue that is away is a ConnectionError."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._actor: Any = None

    def hello(self, slot: Slot) -> None:
        """See LeaseSource."""
        self._call("hello", slot)

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        """See LeaseSource."""
        found: Lease | NoWork = self._call("lease", slot, wait_s, patience_s=CALL_S + wait_s)
        return found

    def reserve(self, slot: Slot) -> TrialSpec | None:
        """See LeaseSource."""
        found: TrialSpec | None = self._call("reserve", slot, patience_s=RESERVE_S)
        return found

    def heartbeat(self, slot: Slot, lease: Lease, progress: Progress) -> Heartbeat:
        """See LeaseSource."""
        patience_s = min(CALL_S, lease.ttl_s / 3)  # to notice in time that it is cut off
        answer: Heartbeat = self._call("heartbeat", slot, lease, progress, patience_s=patience_s)
        return answer

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome) -> bool:
        """See LeaseSource."""
        accepted: bool = self._call("complete", slot, lease, outcome)
        return accepted

    def _call(self, method: str, *args: object, patience_s: float = CALL_S) -> Any:  # noqa: ANN401
        try:
            if self._actor is None:
                self._actor = self._find()
            return ray.get(getattr(self._actor, method).remote(*args), timeout=patience_s)
        except RayTaskError as error:
            if isinstance(error.cause, ConnectionError):
                raise error.cause from None
            raise
        except (RayActorError, GetTimeoutError, ValueError) as error:
            # A ValueError is Ray's word for an actor of this name not being there.
            self._actor = None
            raise ConnectionError(f"the queue is away: {error}") from error


class LocalCode:
    """trainer.ports.CodeSource on the node that holds the study's repository."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def fetch(self, commit: CommitId) -> Path:  # noqa: ARG002 - every commit is there
        """See CodeSource."""
        return self._repository


class WorkerActor:
    """One slot's worker. `run` is its only long call and stays on the actor's main thread."""

    def __init__(self, settings: WorkerSettings) -> None:
        assert_ours()
        self._settings = settings
        self._incarnation = uuid.uuid4().hex[:12]

    def run(self) -> str:
        """Claim a device, then run trials until the study drains; return why it ended."""
        source = RayLeaseSource(lambda: ray.get_actor("queue"))
        claim = self._claim(source)
        if claim is not None:
            try:
                self._worker(claim, source).run()
            finally:
                claim.release()
        return "drained"

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
        found = self._try_device()
        has_user = os.geteuid() == 0 and self._settings.trial.sandbox != "none"
        if has_user and isinstance(found, Claim):
            return with_user(found, self._settings.study)
        return found

    def _try_device(self) -> Claim | Unavailable:
        settings = self._settings
        if not settings.trial.gpus:
            count = max(settings.slots, os.cpu_count() or 1)
            return claim_cpu(study=settings.study, count=count, worker=settings.number)
        return claim_gpus(
            study=settings.study,
            share=settings.trial.gpus,
            indexes=[int(index) for index in ray.get_gpu_ids()],
            worker=settings.number,
            gpus=NvmlGpus(),
            busy_mb=settings.gpu_busy_mb,
        )

    def _worker(self, claim: Claim, source: LeaseSource) -> Worker:
        """Make what serves the slot; raises what the making of an environment or sandbox raises."""
        slot = self._slot(claim)
        settings, paths = self._settings, self._settings.paths
        environment = prepare(
            settings.trial,
            base=settings.base,
            repository=paths.repository,
            paths=paths,
            study=settings.study,
        )
        limits = limits_for(settings.trial, machine_bytes=machine_memory(), slots=settings.slots)
        sandbox = arrange(
            settings.trial.sandbox,
            environment=environment,
            data=settings.trial.data,
            paths=paths,
            devices=device_nodes(slot.gpu_uuids, NvmlGpus()),
            memory_bytes=limits.memory_bytes,
            uid=claim.uid,
        )
        materialiser = self._materialiser(slot, environment, sandbox, limits)
        return Worker(
            slot=slot,
            leases=source,
            materialiser=materialiser,
            supervisors=(Supervisor(), Supervisor()),
            gpus=self._gpu_watch(slot, materialiser.mark_prefix),
            scorer=self._scorer(slot, environment, sandbox, limits),
            wait_for_cards=self._card_memory(slot).wait_until_free,
            obstacle=lambda: lack_of_room(self._settings.paths.study),
        )

    def _materialiser(
        self, slot: Slot, environment: Environment, sandbox: Sandbox, limits: Limits
    ) -> Materialiser:
        settings, trial = self._settings, self._settings.trial
        cores = os.cpu_count() or 1
        return Materialiser(
            study=settings.study,
            slot=slot,
            paths=settings.paths,
            environment=environment,
            metric=settings.metric,
            code=LocalCode(settings.paths.repository),
            sandbox=sandbox,
            threads=0 if trial.gpus else max(1, cores // settings.slots),
            limits=limits,
            editable=settings.editable,
            preload=trial.preload,
            seed=self._seed(slot, limits),
        )

    def _scorer(
        self, slot: Slot, environment: Environment, sandbox: Sandbox, limits: Limits
    ) -> PredictionScorer | None:
        settings = self._settings
        if settings.score is None:
            return None
        return arrange_scorer(
            settings.score,
            metric=settings.metric,
            environment=environment,
            trial_sandbox=sandbox,
            limits=limits,
            place=ScorerPlace(
                study=settings.study, slot=slot.id, base=settings.base, paths=settings.paths
            ),
        )

    def _gpu_watch(self, slot: Slot, mark_prefix: str) -> GpuWatch:
        return GpuWatch(
            NvmlSampler(),
            slot.gpu_uuids,
            mark_prefix=mark_prefix,
            mark_of=mark_of,
            is_shared=self._settings.trial.gpus < 1,
            tolerated_mb=self._settings.gpu_busy_mb,
        )

    def _seed(self, slot: Slot, limits: Limits) -> CacheSeed | None:
        settings = self._settings
        if settings.trial.sandbox == "none":
            return None  # trials share the user's own caches
        return CacheSeed.of(slot, base=settings.base, paths=settings.paths, limits=limits)

    def _card_memory(self, slot: Slot) -> CardMemory:
        # On a card that is shared, what others take says nothing of ours.
        is_shared = self._settings.trial.gpus < 1
        return CardMemory(() if is_shared else slot.gpu_uuids, NvmlGpus())

    def _slot(self, found: Claim | Unavailable) -> Slot:
        return Slot(
            id=SlotId(found.name),
            incarnation=self._incarnation,
            node=socket.gethostname(),
            device=found.device,
            device_class=found.device_class,
            gpu_uuids=found.gpu_uuids if isinstance(found, Claim) else (),
            note=found.reason if isinstance(found, Unavailable) else "",
        )
