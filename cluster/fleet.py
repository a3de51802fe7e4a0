"""The fleet: a process of its own that brings up Ray, the queue actor and the workers.

It is the only driver of Ray. When the raylet or Ray's control store dies, Ray may take its driver
along; it takes this process then, not the controller, which starts another. When the controller
dies, this process leaves, and the detached actors go on; the next one finds them by name.

Protocol: settings as JSON in the file named by the only argument; reports as JSON lines on standard
output; the word `shutdown` on standard input ends everything, end of file only this process.
"""

import hashlib
import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.codec import from_json, to_json
from cluster.depot import DEPOT, THREADS, DepotActor
from cluster.fleet_settings import FleetSettings
from cluster.ours import assert_ours
from cluster.queue_actor import QueueActor
from cluster.ray_cluster import PrivateRay, RayFailed, RayProcess
from cluster.worker_actor import WorkerActor
from trainer.arrange_scorer import most_bytes
from trainer.config import KeepConfig, ScoreConfig, TrialConfig
from trainer.paths import WorkerPaths
from trainer.slot_parts import WorkerSettings
from trainer.trial import CommitId

QUEUE = "queue"
"""Name of the queue actor, in the study's namespace."""
CHECK_S = 0.25
PING_S = 5.0
BACKOFF_S = 2.0
MOST_FAILURES = 5
WINDOW_S = 120.0
"""A worker that ends badly `MOST_FAILURES` times within this many seconds is reported as fatal."""


class FleetFailed(RuntimeError):
    """The fleet cannot come up, and will not by trying again."""


class _Fleet:
    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._trial = TrialConfig.model_validate_json(json.dumps(dict(settings.trial)))
        self._score = (
            None
            if settings.score is None
            else ScoreConfig.model_validate_json(json.dumps(dict(settings.score)))
        )
        self._further = {
            section: ScoreConfig.model_validate_json(json.dumps(dict(score)))
            for section, score in settings.further.items()
        }
        self._keep = KeepConfig.model_validate_json(json.dumps(dict(settings.keep)))
        self._private = PrivateRay(
            runtime=Path(settings.runtime),
            directory=Path(settings.directory),
            empty=Path(settings.empty),
        )
        self._queue: Any = None
        self._depot: Any = None
        self._workers: dict[str, Any] = {}
        self._runs: dict[Any, str] = {}
        self._failures: dict[str, list[float]] = {}
        self._due: dict[str, float] = {}
        self._pinged = 0.0

    # --- coming up -------------------------------------------------------------------------------

    def join(self) -> None:
        """Find or start Ray, and connect to it."""
        address = self._settings.address
        if not address:
            own = self._private.find() or self._private.start()
            address = own.address
            threading.Thread(target=_leave_with, args=(own,), daemon=True).start()
        ray.init(
            address=address,
            namespace=self._settings.study,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )

    def populate(self) -> int:
        """Find or make the queue actor and a worker per slot; return how many slots there are."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        common = {
            "lifetime": "detached",
            "get_if_exists": True,
            "scheduling_strategy": here,
            "num_cpus": 0,
            "max_restarts": -1,
        }
        queue = ray.remote(QueueActor).options(name=QUEUE, max_concurrency=1000, **common)
        settings = self._settings
        self._queue = queue.remote(settings.url, settings.study, settings.lease_s)
        ray.get(self._queue.adopt.remote(settings.lease_s))
        depot = ray.remote(DepotActor).options(name=DEPOT, max_concurrency=THREADS, **common)
        limits = self._returned_bytes(), self._keep.disk_gb
        self._depot = depot.remote(settings.directory, settings.base, *limits)
        self._depot.adopt.remote(*limits)  # one of an earlier controller has other ones perhaps
        slots = self._count_slots()
        wanted = WorkerSettings(
            study=settings.study,
            base=CommitId(settings.base),
            paths=WorkerPaths(
                study=Path(settings.directory), environments=Path(settings.environments)
            ),
            trial=self._trial,
            metric=settings.metric,
            slots=slots,
            gpu_busy_mb=settings.gpu_busy_mb,
            editable=settings.editable,
            score=self._score,
            further=self._further,
            keep=self._keep,
            needed=settings.needed,
        )
        gpus = {"num_gpus": self._trial.gpus} if self._trial.gpus else {}
        # Workers of an earlier controller are adopted if they would do the same.
        scoring = (settings.score, settings.further)
        depends = (
            settings.trial,
            settings.metric,
            scoring,
            settings.editable,
            settings.keep,
            slots,
        )
        key = hashlib.sha256(to_json(depends)).hexdigest()[:8]
        names = [f"worker-{number}-{key}" for number in range(slots)]
        end_actors(name for name in _actors() if name not in {*names, QUEUE, DEPOT})
        for number, name in enumerate(names):
            actor = ray.remote(WorkerActor).options(name=name, **common, **gpus)
            self._workers[name] = actor.remote(replace(wanted, number=number))
            self._run(name)
        return slots

    def _returned_bytes(self) -> int:
        """Return what may come back of one trial from a node: files, and what is scored here."""
        needed = most_bytes(self._score) * len(self._settings.needed) if self._score else 0
        return round(self._keep.return_mb * 1e6) + needed

    def _count_slots(self) -> int:
        if not self._trial.gpus:
            return self._settings.slots
        here = ray.get_runtime_context().get_node_id()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        gpus = sum(node["Resources"].get("GPU", 0.0) for node in nodes if node["NodeID"] == here)
        found = int(gpus // self._trial.gpus)
        if not found:
            raise FleetFailed(
                f"a trial needs {self._trial.gpus:g} GPU, and Ray sees {gpus:g} on this machine "
                "(set [trial] gpus = 0 to run on CPU slots)"
            )
        return min(found, self._settings.slots) if self._settings.slots else found

    def _run(self, name: str) -> None:
        self._runs[self._workers[name].run.remote()] = name

    # --- keeping up ------------------------------------------------------------------------------

    def tend(self) -> None:
        """See what has died, and bring it back."""
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self._run(name)
        done, _ = ray.wait(list(self._runs), timeout=0) if self._runs else ([], [])
        for run in done:
            self._see(self._runs.pop(run), run)
        if now - self._pinged > PING_S:
            # An actor that Ray restarts is started by this call.
            self._queue.ping.remote()
            self._pinged = now

    def _see(self, name: str, run: Any) -> None:  # noqa: ANN401 - Ray's own reference
        """Look at a run that has ended: drained, or ended badly and to be run again."""
        now = time.monotonic()
        self._due[name] = now + BACKOFF_S
        try:
            ray.get(run)
        except ray.exceptions.RayActorError:
            text = f"{name} died; it is started again"
        except Exception as error:  # noqa: BLE001 - whatever ended it, the study is to go on
            text = f"{name} failed: {_cause(error)}"
        else:
            return
        recent = [at for at in self._failures.get(name, []) if now - at < WINDOW_S]
        self._failures[name] = [*recent, now]
        say("fatal" if len(recent) + 1 >= MOST_FAILURES else "problem", text)

    # --- going down ------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End the actors; the controller ends Ray itself."""
        end_actors(_actors())
        ray.shutdown()


def _leave_with(own: RayProcess) -> None:
    """End this process when its Ray ends: Ray's own calls would go on waiting for a minute."""
    while own.is_alive():
        time.sleep(CHECK_S)
    say("problem", "Ray has died")
    os._exit(1)


def _actors() -> Sequence[str]:
    """Return the names of all of the study's actors, whoever made them."""
    return [str(name) for name in ray.util.list_named_actors()]


def end_actors(names: Iterable[str]) -> None:
    """End actors for good, by name."""
    for name in names:
        with suppress(ValueError):  # it has ended meanwhile
            ray.kill(ray.get_actor(name), no_restart=True)


def _cause(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0][:500]


def say(kind: str, text: str) -> None:
    """Report to the controller."""
    sys.stdout.write(json.dumps({"kind": kind, "text": text}) + "\n")
    sys.stdout.flush()


def _ordered(timeout_s: float) -> str | None:
    """Return an order from the controller: "" if it is gone, None if there is none."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return sys.stdin.readline().strip() if ready else None


def main() -> int:
    """Run the fleet until told to end, or until Ray or the controller is gone."""
    assert_ours()
    fleet = _Fleet(from_json(FleetSettings, Path(sys.argv[1]).read_bytes()))
    try:
        fleet.join()
        say("ready", f"{fleet.populate()} slots")
        while (order := _ordered(CHECK_S)) is None:
            fleet.tend()
    except FleetFailed as error:
        say("fatal", str(error))
        return 1
    except (RayFailed, ConnectionError, ray.exceptions.RayError) as error:
        say("problem", _cause(error))
        return 1
    if order == "shutdown":
        fleet.shutdown()
        say("down", "everything was ended")
    return 0


def end() -> int:
    """End what an earlier fleet left in the Ray cluster that it had joined."""
    assert_ours()
    fleet = _Fleet(from_json(FleetSettings, Path(sys.argv[1]).read_bytes()))
    try:
        fleet.join()
        fleet.shutdown()
    except (ConnectionError, ray.exceptions.RayError) as error:
        say("problem", _cause(error))
        return 1
    return 0
