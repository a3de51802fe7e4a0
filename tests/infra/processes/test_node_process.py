"""What a node process makes of its driver's reports, with drivers that do nothing but report."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.node_home import NodeHome
from infra.processes import node_process
from infra.processes.node_process import NodeProcess, growing_logs

HEAD = "127.0.0.1:9"
AWAY = 3


@dataclass(frozen=True, slots=True)
class Drive:
    """A driver that reports this, and ends."""

    reports: tuple[tuple[str, str], ...]
    code: int = AWAY

    @property
    def program(self) -> str:
        lines = "".join(json.dumps({"kind": k, "text": t}) + "\n" for k, t in self.reports)
        return f"import sys; print({lines!r}, end='', flush=True); sys.exit({self.code})"


@pytest.fixture
def home(incumbent_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeHome]:
    home = NodeHome.locate(HEAD)
    home.create()
    monkeypatch.setattr(node_process, "AGAIN_S", 0.0)
    monkeypatch.setattr(node_process, "LOOK_S", 0.01)
    before = signal.getsignal(signal.SIGTERM)
    with home.held():
        yield home
    signal.signal(signal.SIGTERM, before)


def reported(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch, *drives: Drive | None
) -> list[tuple[str, str]]:
    """Run a node process with one driver after the other; None is a head that is silent."""
    coming = iter(drives)

    def answers(_: str) -> bool:
        drive = next(coming)
        if drive is not None:
            monkeypatch.setattr(node_process, "_DRIVER", drive.program)
        return drive is not None

    monkeypatch.setattr(node_process, "answers", answers)
    NodeProcess(home, node="rig", slots=1).run()
    found = [json.loads(line) for line in home.reports.read_text().splitlines()]
    return [(report["kind"], report["text"]) for report in found]


LEFT = Drive((("left", "drained"),), 0)
SLOW_TO_GO = """
import atexit, sys, time
from infra.processes import node_process
atexit.register(time.sleep, 30)
node_process.NodeProcess.run = lambda _: 7
sys.exit(node_process.main())
"""
"""A node process of which much is left to do, were it to end as others do."""


def test_who_waits_for_its_lock_finds_nothing_left_of_it(incumbent_home: Path) -> None:
    home = NodeHome.locate(HEAD)
    home.create()
    program = (sys.executable, "-c", SLOW_TO_GO, HEAD, "rig", "1")
    assert subprocess.run(program, check=False, timeout=20).returncode == 7
    with home.held() as is_ours:
        assert is_ours


def test_what_a_node_writes_for_as_long_as_it_lives_is_known(home: NodeHome) -> None:
    setup = home.directory / "study-0123456789" / "logs" / "setup.log"
    setup.parent.mkdir(parents=True)
    of_ray = home.runtime() / "ray" / "session_2026" / "logs" / "worker-1.err"
    of_ray.parent.mkdir(parents=True)
    written = [home.reports, home.driver_log, home.directory / "ray.log", setup, of_ray]
    for log in written:
        log.touch()
    assert set(written) <= set(growing_logs(home))
    shutil.rmtree(home.runtime())


def test_a_study_that_stopped_is_waited_for_in_silence_until_it_is_up(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = reported(
        home,
        monkeypatch,
        Drive((("joined", "1 slot"), ("stopped", "the study has stopped"))),
        None,
        Drive((("away", "the Ray there is not that of a study, or is not up yet"),)),
        Drive((("phase", "starting Ray"), ("away", "it does not answer"))),
        None,
        LEFT,
    )
    assert said == [
        ("starting", "asking the study what it is"),
        ("joined", "1 slot"),
        ("waiting", "the study has stopped"),
        ("starting", "starting Ray"),
        ("waiting", "it does not answer"),
        ("waiting", f"nobody answers at {HEAD}"),
        ("starting", "asking the study what it is"),
        ("left", "drained"),
    ]


def test_a_node_that_is_drained_says_that_it_leaves(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "finishing what runs, then leaving"
    drive = Drive((("joined", "1 slot"), ("leaving", words), ("left", "drained")), 0)
    assert reported(home, monkeypatch, drive)[1:] == [
        ("joined", "1 slot"),
        ("leaving", words),
        ("left", "drained"),
    ]


def test_why_a_driver_ended_is_said_once(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    died, gone = ("problem", "a worker died"), ("away", "the study's queue is gone")
    said = reported(home, monkeypatch, Drive((died, gone)), Drive((died,), 1), Drive((), 1), LEFT)
    asked = ("starting", "asking the study what it is")
    assert said == [
        *(asked, died, ("waiting", "the study's queue is gone")),
        *(asked, died, ("waiting", "a worker died")),
        *(asked, ("waiting", "the driver ended with status 1")),
        *(asked, ("left", "drained")),
    ]


def test_why_a_node_left_is_not_the_last_problem_that_it_had(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Drive((("problem", "a worker died"),), 0)
    assert reported(home, monkeypatch, killed)[-1] == ("left", "")


def test_a_driver_that_reports_at_once_is_heard(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(threading.Thread):
        def start(self) -> None:
            super().start()
            self.join()

    monkeypatch.setattr(threading, "Thread", Hasty)
    refused = Drive((("fatal", "there is no sandbox"),), 2)
    assert reported(home, monkeypatch, refused)[-1] == ("refused", "there is no sandbox")
