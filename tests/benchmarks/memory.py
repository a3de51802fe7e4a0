"""What a running study holds in memory, process by process."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import psutil

from infra.local.home import StudyHome
from tests.benchmarks.figures import Figure
from tests.benchmarks.machine import proportional_mb
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.study_process import Order
from tests.benchmarks.workshop import Failed, RunningStudy, running_study
from trainer.process_tree import MARK_VARIABLE

NAME = "memory"
EXPERIMENT_S = 5.0
PATIENCE_S = 120.0


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the memory of each kind of process while every slot runs a trial."""
    slots = sizes.slots
    order = Order(experiments=3 * slots, slots=slots, experiment_s=EXPERIMENT_S)
    with running_study(order) as study:
        supervisors = _supervisors_of_busy_slots(study, slots)
        found = _by_kind(study, supervisors)
    total = sum(sum(values) for values in found.values())
    ray = found.pop("Ray's own processes")
    for kind, values in found.items():
        yield _figure(kind, values)
    pair = median(found["worker"]) + median(found["trial supervisor"])
    yield _figure("worker and its supervisor together", [pair])
    yield _figure(f"Ray's own processes, all {len(ray)} together", [sum(ray)])
    yield _figure(f"all of it, {slots} slots, trials aside", [total])


def _figure(kind: str, values: Sequence[float]) -> Figure:
    return Figure(bench=NAME, name=f"{kind} (PSS)", unit="MiB", values=values)


def _supervisors_of_busy_slots(study: RunningStudy, slots: int) -> set[int]:
    """Wait until all slots run a trial; return the processes that supervise them."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and study.process.poll() is None:
        for home in study.place.homes():
            found = _supervisors(home)
            if len(found) == slots:
                return found
        time.sleep(0.2)
    raise Failed(f"{slots} trials never ran together")


def _supervisors(home: StudyHome) -> set[int]:
    """Return the parents of the trials' first processes, which carry the study's mark."""
    mark = f"{MARK_VARIABLE}={home.id}/".encode()
    marked: dict[int, int] = {}
    for process in psutil.process_iter():
        try:
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                marked[process.pid] = process.ppid()
        except (OSError, psutil.Error):
            continue
    return set(marked.values()) - set(marked)


def _by_kind(study: RunningStudy, supervisors: set[int]) -> dict[str, list[float]]:
    (home,) = study.place.homes()
    found: dict[str, list[float]] = {
        "controller": [proportional_mb(study.process.pid)],
        "fleet": [],
        "embedded Valkey": [proportional_mb(int((home.redis / "valkey.pid").read_text()))],
        "queue actor": [],
        "worker": [],
        "trial supervisor": [proportional_mb(pid) for pid in supervisors],
        "Ray's own processes": [],
    }
    session = json.loads((home.directory / "ray.json").read_text())["pid"]
    for process in psutil.process_iter(["cmdline"]):
        kind = _kind(process, home, session)
        if kind:
            found[kind].append(proportional_mb(process.pid))
    return found


def _kind(process: psutil.Process, home: StudyHome, session: int) -> str:
    line = process.info["cmdline"] or [""]
    if line[-1] == str(home.directory / "fleet.json"):
        return "fleet"
    try:
        if os.getsid(process.pid) != session:
            return ""
    except OSError:
        return ""
    if line[0].startswith("ray::QueueActor"):
        return "queue actor"
    return "worker" if line[0].startswith("ray::WorkerActor") else "Ray's own processes"
