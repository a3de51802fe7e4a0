"""Starts and finds the process of a study's final run.

The process itself is infra.processes.final_main. It has a session and a lock of its own, like the
controller, and needs none to run: a lost terminal changes nothing, and the command line attaches.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cluster.config import StudyConfig
from cluster.nodes.environment import allowed_environment
from infra.local.file_lock import is_locked, locked_soon
from infra.local.home import StudyHome, StudyProblem, write_atomically
from trainer.growing_log import anew
from trainer.trial import ExperimentId

PROGRAM = "from infra.processes.final_main import main; raise SystemExit(main())"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalOrder:
    """What is asked of a final run."""

    experiment: ExperimentId
    """Empty for the incumbent."""
    config: StudyConfig


def write_order(home: StudyHome, order: FinalOrder) -> None:
    """Say what the next process is to do."""
    text = {"experiment": order.experiment, "config": order.config.model_dump(mode="json")}
    write_atomically(home.final_order, json.dumps(text) + "\n", mode=0o600)


def read_order(home: StudyHome) -> FinalOrder:
    """Return what this process is to do."""
    text = json.loads(home.final_order.read_text("utf-8"))
    config = StudyConfig.model_validate_json(json.dumps(text["config"]))
    return FinalOrder(experiment=ExperimentId(text["experiment"]), config=config)


def find_final(home: StudyHome) -> int | None:
    """Return the process of the final run that is under way, 0 until it says; None if none is."""
    try:
        with home.final.open("r", encoding="utf-8") as file:
            if is_locked(file):
                return int(file.read() or 0)
    except FileNotFoundError:
        pass
    return None


@contextmanager
def sole_final(home: StudyHome) -> Iterator[None]:
    """Be the one final run of a study; raises StudyProblem if there is another."""
    descriptor = os.open(home.final, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        if not locked_soon(file):
            raise StudyProblem(f"a final run of {home.name} is under way already")
        file.truncate(0)  # who held it last is not to be taken for us
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def start_final(home: StudyHome) -> subprocess.Popen[bytes]:
    """Start the process in its own session, from an empty directory and a clean environment."""
    with anew(home.final_log) as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, str(home.directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=allowed_environment(),
            cwd=home.empty,
            start_new_session=True,
        )
    while find_final(home) is None and process.poll() is None:
        time.sleep(0.05)
    return process


def end_final(home: StudyHome) -> bool:
    """Have a final run give back what runs, and wait until it has ended; say whether there was one.

    What it has trained stays: the next carries it on. One that begins meanwhile is left alone.
    """
    told = 0
    while (process := find_final(home)) is not None and told in {0, process}:
        if process and not told:
            told = process
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        time.sleep(0.1)
    return told != 0
