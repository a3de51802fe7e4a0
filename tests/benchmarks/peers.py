"""What else one could run experiments with, measured in the same run on the same machine."""

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from cluster.nodes.ray_cluster import PrivateRay
from tests.benchmarks.research import Kind, commit_all, create_repository, with_number
from tests.benchmarks.workshop import Failed, Place
from trainer.git_command import GitCommand

_METRIC = re.compile(r"^METRIC x=(\S+)$", re.MULTILINE)


def sequential_loop(
    folder: Path, *, rounds: int, experiment_s: float = 0.0, latency_s: float = 0.0
) -> float:
    """Return the experiments per second of the loop that an agent of autoresearch follows.

    Think, edit, commit, run into a log, grep the metric, and go back a commit unless it is better.
    """
    repository = create_repository(folder / "loop", slots=1, experiment_s=experiment_s)
    command = [f"./{Kind.SHELL.script}"]
    turns = _turns(repository, command, repository / Kind.SHELL.script, latency_s)
    start = time.monotonic()
    for _ in range(rounds):
        next(turns)
    return rounds / (time.monotonic() - start)


def sequential_logs(folder: Path, *, rounds: int, experiment_s: float) -> list[str]:
    """Return the logs of the same loop over a script with torch, one a round."""
    kind = Kind.TORCH
    repository = create_repository(folder / "loop", slots=1, experiment_s=experiment_s, kind=kind)
    turns = _turns(repository, [sys.executable, kind.script], repository / kind.script, 0.0)
    return [next(turns) for _ in range(rounds + 1)]


def _turns(
    repository: Path, command: Sequence[str], script: Path, latency_s: float
) -> Iterator[str]:
    """Yield the log of each round, without end."""
    git, log = GitCommand(repository), repository.parent / "run.log"
    numbers, best = random.Random(0), float("inf")
    while True:
        time.sleep(latency_s)
        script.write_text(with_number(script.read_text("utf-8"), numbers.random()), "utf-8")
        commit_all(git, "try a number")
        with log.open("wb") as output:
            subprocess.run(command, cwd=repository, stdout=output, check=True)
        text = log.read_text("utf-8")
        found = _METRIC.search(text)
        value = float(found[1]) if found else float("inf")
        if value < best:
            best = value
        else:
            git.run("reset", "--quiet", "--hard", "HEAD~1")
        yield text


def optuna_threads(*, trials: int, jobs: int, journal: Path | None = None) -> float:
    """Return the trials per second of `Study.optimize` with an objective that does nothing.

    Random search, in memory or with a journal file: what costs Optuna least.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: BaseStorage = InMemoryStorage()
    if journal is not None:
        storage = JournalStorage(JournalFileBackend(str(journal)))
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler)
    start = time.monotonic()
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=trials, n_jobs=jobs)
    return trials / (time.monotonic() - start)


_RAY_PROGRAM = """\
import json, logging, sys, time
import ray
order = json.loads(sys.argv[1])
ray.init(
    num_cpus=2, num_gpus=order["gpus"], include_dashboard=False, log_to_driver=False,
    logging_level=logging.ERROR, _temp_dir=order["folder"], object_store_memory=80 * 1024 * 1024,
)
nothing = ray.remote(num_cpus=0, num_gpus=1)(lambda: None)
ray.get([nothing.remote() for _ in range(order["gpus"])])
start = time.monotonic()
ray.get([nothing.remote() for _ in range(order["tasks"])])
print(json.dumps(order["tasks"] / (time.monotonic() - start)))
"""


def ray_gpu_tasks(where: Place, *, tasks: int, gpus: int) -> float:
    """Return the tasks per second of Ray's own tasks that do nothing on one (imaginary) GPU each.

    With Ray's default for tasks that use GPUs, which is a process for each of them.
    """
    empty = where.folder / "empty"
    empty.mkdir(exist_ok=True)
    ray = PrivateRay(runtime=where.folder, directory=where.folder, empty=empty)
    order = {"tasks": tasks, "gpus": gpus, "folder": str(where.folder / "ray")}
    done = subprocess.run(
        [sys.executable, "-c", _RAY_PROGRAM, json.dumps(order)],
        capture_output=True,
        text=True,
        check=False,
        env=dict(ray.environment()),
        cwd=empty,
    )
    if done.returncode:
        raise Failed(f"Ray: {done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])
