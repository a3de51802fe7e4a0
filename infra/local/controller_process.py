"""Finds the controller process of a study: it holds a lock on `controller.json` while it lives."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from infra.local.file_lock import is_locked, locked_soon
from infra.local.home import StudyHome


class ControllerRuns(RuntimeError):
    """A study has a controller already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerFacts:
    """Who the controller is."""

    pid: int
    """0 while it has not said so."""
    node: str
    metrics: str = ""
    """Address of /metrics; empty if it is not served."""


def find_controller(home: StudyHome) -> ControllerFacts | None:
    """Return the controller that runs; None if none does."""
    try:
        with home.controller.open("r", encoding="utf-8") as file:
            return _read(file.read()) if is_locked(file) else None
    except FileNotFoundError:
        return None


def _read(text: str) -> ControllerFacts:
    try:
        return ControllerFacts(**json.loads(text))
    except (ValueError, TypeError):  # it is only being written
        return ControllerFacts(pid=0, node=socket.gethostname())


@contextmanager
def sole_controller(home: StudyHome) -> Iterator[None]:
    """Be the one controller of a study; raises ControllerRuns, naming the other."""
    descriptor = os.open(home.controller, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        if not locked_soon(file):
            other = find_controller(home) or _read("")
            raise ControllerRuns(
                f"the study {home.name} has a controller already: process {other.pid} on "
                f"{other.node} (`incumbent stop` ends it)"
            )
        file.truncate(0)  # what the last one said of itself is not so any more
        yield


def announce(home: StudyHome, metrics: str = "") -> None:
    """Say who the controller is; to be called by the controller, under its lock."""
    facts = ControllerFacts(pid=os.getpid(), node=socket.gethostname(), metrics=metrics)
    # In place: a new file would not carry the lock.
    with home.controller.open("r+", encoding="utf-8") as file:
        file.write(json.dumps(asdict(facts)) + "\n")
        file.truncate()
