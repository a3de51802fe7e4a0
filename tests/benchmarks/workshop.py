"""Makes a place for one measurement, and leaves nothing of it behind: no file, no process."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.ledger.codec import from_json, to_json
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome
from infra.local.study import opened
from infra.processes.leftovers import end_leftovers
from tests.benchmarks.study_process import ORDER, REPORT, Order, Report

CHECKOUT = Path(__file__).resolve().parents[2]
LOG = "study.log"


class Failed(RuntimeError):
    """A measurement could not be taken; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A temporary folder with a state directory of its own."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for processes that are to use this place."""
        return {
            **os.environ,
            "INCUMBENT_HOME": str(self.folder / "state"),
            "INCUMBENT_LOCK_DIR": str(self.folder / "locks"),
        }

    def homes(self) -> list[StudyHome]:
        """Return the homes of the studies that were begun here."""
        return [
            StudyHome.read(found.parent) for found in self.folder.glob("state/studies/*/study.json")
        ]


@contextmanager
def place() -> Iterator[Place]:
    """Make a place, and clear it away with everything that runs in it."""
    found = Place(folder=Path(tempfile.mkdtemp(prefix="ib-")))  # short: sockets go below it
    try:
        yield found
    finally:
        for home in found.homes():
            end_leftovers(home)
            if EmbeddedServer(home).socket.exists():
                with opened(home):
                    pass  # whoever leaves last stops it
            shutil.rmtree(home.runtime(), ignore_errors=True)
        shutil.rmtree(found.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStudy:
    """A study that somebody looks at while it runs."""

    place: Place
    process: subprocess.Popen[bytes]
    """Its controller."""

    def finish(self) -> Report:
        """Wait for its end; raises Failed if that is not the one that was wanted."""
        if self.process.wait():
            raise Failed((self.place.folder / LOG).read_text("utf-8", "replace")[-2000:])
        return from_json(Report, (self.place.folder / REPORT).read_bytes())


@contextmanager
def running_study(order: Order) -> Iterator[RunningStudy]:
    """Start a study in a place of its own."""
    with place() as where:
        (where.folder / ORDER).write_bytes(to_json(order))
        with (where.folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.study_process", str(where.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(where.environment),
                cwd=CHECKOUT,
            )
        try:
            yield RunningStudy(place=where, process=process)
        finally:
            process.kill()
            process.wait()


def run_study(order: Order) -> Report:
    """Run a study to its end."""
    with running_study(order) as running:
        return running.finish()
