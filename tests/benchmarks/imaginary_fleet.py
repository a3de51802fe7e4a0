"""Imaginary workers in a process of their own, around the real queue actor, or as actors of Ray.

`python -m tests.benchmarks.imaginary_fleet FOLDER` serves what FOLDER/fleet.json says until the
study drains, and leaves FOLDER/fleet-report.json. The queue actor's class is what answers either
way; without Ray only its transport is left out, so that hundreds of workers fit into one machine.
"""

import asyncio
import logging
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.controller.ports import FleetProblem
from cluster.ledger.codec import from_json, to_json
from cluster.nodes.ray_cluster import PrivateRay
from cluster.nodes.worker_actor import RayLeaseSource
from cluster.queue.queue_actor import QueueActor
from cluster.transport.actor_handle import CALL_S
from tests.benchmarks import imaginary_worker
from tests.benchmarks.imaginary_worker import ImaginaryWorker, Tally, imaginary_slot
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.trial import TrialOutcome, TrialSpec

ORDER, REPORT = "fleet.json", "fleet-report.json"
LEASE_S = 30.0
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOrder:
    """What workers are wanted."""

    url: str
    study: str
    slots: int
    trial_s: float
    runtime: str = ""
    """Where a private Ray has its files; empty for workers without Ray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """What came of them."""

    calls_ms: dict[str, list[float]] = field(default_factory=dict)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    queue_cpu_s: float = 0.0
    """Of the process with the queue actor; without Ray the workers are in it, too."""


class ImaginaryFleet:
    """Implements cluster.controller.ports.Fleet."""

    def __init__(self, folder: Path, order: FleetOrder) -> None:
        self._folder = folder
        self._order = order
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """See Fleet."""
        (self._folder / ORDER).write_bytes(to_json(self._order))
        program = [sys.executable, "-m", "tests.benchmarks.imaginary_fleet", str(self._folder)]
        # Ray reads its variables when it is imported.
        variables = dict(_private(self._folder, self._order).environment())
        self._process = subprocess.Popen(
            program,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            env={**variables, "PYTHONPATH": str(CHECKOUT)},
        )

    def check(self) -> Sequence[FleetProblem]:
        """See Fleet."""
        if self._process is not None and self._process.poll():
            return [FleetProblem(text="the imaginary workers have died", is_fatal=True)]
        return ()

    def shutdown(self) -> None:
        """See Fleet; the queue tells workers to leave."""
        if self._process is not None:
            self._process.wait()

    def report(self) -> FleetReport:
        """Return what the workers saw, once they have left."""
        return from_json(FleetReport, (self._folder / REPORT).read_bytes())


async def serve(order: FleetOrder) -> FleetReport:
    """Run all workers in this process, around a queue actor without its Ray."""
    queue = QueueActor(order.url, order.study, LEASE_S)
    await queue.adopt(LEASE_S)
    slots = [imaginary_slot(number) for number in range(order.slots)]
    workers = [ImaginaryWorker(slot, queue, trial_s=order.trial_s) for slot in slots]
    tallies = await asyncio.gather(*(worker.run() for worker in workers))
    return _report(tallies, _cpu_s())


def _report(tallies: Sequence[Tally], queue_cpu_s: float) -> FleetReport:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return FleetReport(calls_ms=total.calls_ms, pauses=total.pauses, queue_cpu_s=queue_cpu_s)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- over Ray -------------------------------------------------------------------------------------


class _RayLeases:
    """Leases from the queue actor; each call blocks the worker, as it does a real one."""

    def __init__(self) -> None:
        self._source = RayLeaseSource(lambda: ray.get_actor("queue"))

    async def hello(self, slot: Slot) -> None:
        self._source.hello(slot)

    async def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        return self._source.lease(slot, wait_s)

    async def reserve(self, slot: Slot) -> TrialSpec | None:
        return self._source.reserve(slot, CALL_S)

    async def heartbeat(self, slot: Slot, lease: Lease, progress: Progress) -> Heartbeat:
        return self._source.heartbeat(slot, lease, progress, CALL_S)

    async def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome) -> bool:
        return self._source.complete(slot, lease, outcome, CALL_S)


class _Actor:
    """One imaginary worker as an actor."""

    def run(self, number: int, trial_s: float) -> bytes:
        worker = ImaginaryWorker(imaginary_slot(number), _RayLeases(), trial_s=trial_s)
        return to_json(asyncio.run(worker.run()))


class _MeasuredQueue(QueueActor):
    """The queue actor, which also tells what it has cost."""

    async def cpu_s(self) -> float:
        return _cpu_s()


def _private(folder: Path, order: FleetOrder) -> PrivateRay:
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    return PrivateRay(runtime=Path(order.runtime), directory=folder, empty=empty)


def serve_over_ray(order: FleetOrder, folder: Path) -> FleetReport:
    """Run each worker as an actor of a private Ray, which is ended afterwards."""
    ray.cloudpickle.register_pickle_by_value(imaginary_worker)  # Ray's workers lack the tests
    private = _private(folder, order)
    found = private.start()
    try:
        ray.init(
            address=found.address,
            namespace=order.study,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        return _over_ray(order)
    finally:
        ray.shutdown()
        private.stop()


def _over_ray(order: FleetOrder) -> FleetReport:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    common: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here}
    measured = ray.remote(_MeasuredQueue).options(name="queue", max_concurrency=1000, **common)
    queue = measured.remote(order.url, order.study, LEASE_S)
    ray.get(queue.adopt.remote(LEASE_S))
    actors = [ray.remote(_Actor).options(**common).remote() for _ in range(order.slots)]
    runs = [actor.run.remote(number, order.trial_s) for number, actor in enumerate(actors)]
    tallies = [from_json(Tally, tally) for tally in ray.get(runs)]
    return _report(tallies, ray.get(queue.cpu_s.remote()))


def main() -> int:
    """Serve the order in the folder that is the only argument."""
    folder = Path(sys.argv[1])
    order = from_json(FleetOrder, (folder / ORDER).read_bytes())
    report = serve_over_ray(order, folder) if order.runtime else asyncio.run(serve(order))
    (folder / REPORT).write_bytes(to_json(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
