"""The controller's end of the fleet process, without a Ray behind it."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster.ledger.codec import to_json
from cluster.ledger.ledger import LedgerAway
from cluster.nodes import fleet_process
from cluster.nodes.fleet_process import (
    ClusterAway,
    FleetProcess,
    end_in_joined,
    settings_file,
)
from cluster.nodes.fleet_settings import FleetSettings
from cluster.queue.brief import Terms
from eval.metric import Goal, Metric

SETTINGS = FleetSettings(
    study="s-1",
    name="s",
    url="unix:///none",
    directory="/study",
    runtime="/run",
    environments="/environments",
    empty="/empty",
    address="10.0.0.5:6379",
    slots=1,
    lease_s=30.0,
    terms=Terms(
        base="c" * 40,
        gpu_busy_mb=0.0,
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)"),
    ),
)
BY_AN_EARLIER_VERSION = """{"study": "s-1", "name": "s", "base": "cccc", "url": "unix:///none",
"directory": "/study", "runtime": "/run", "environments": "/environments", "empty": "/empty",
"address": "10.0.0.5:6379", "listen": "", "slots": 1, "lease_s": 30.0, "gpu_busy_mb": 0.0,
"trial": {"command": "./bench.sh"}, "metric": {"name": "loss", "goal": "minimize"}, "editable": [],
"score": null, "further": {}, "keep": {"disk_gb": 100.0}, "needed": []}"""


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "written", [to_json(SETTINGS).decode(), BY_AN_EARLIER_VERSION], ids=["ours", "earlier"]
)
def test_a_cluster_that_was_joined_is_known_from_settings_of_any_version(
    tmp_path: Path, nowhere: str, written: str
) -> None:
    assert not end_in_joined(tmp_path, log=tmp_path / "log"), "there are no settings yet"
    settings_file(tmp_path).write_text(written.replace(SETTINGS.address, nowhere))
    with pytest.raises(ClusterAway, match=f"the Ray cluster at {nowhere} does not answer"):
        end_in_joined(tmp_path, log=tmp_path / "log")
    assert settings_file(tmp_path).exists(), "for whoever says `stop` again"
    settings_file(tmp_path).write_text(written.replace(SETTINGS.address, ""))
    assert not end_in_joined(tmp_path, log=tmp_path / "log"), "a Ray of its own is ended elsewhere"


PATIENCE_S = 30.0


@dataclass
class Told:
    """What people were told of a fleet, by a ledger that may be away."""

    phases: list[str]
    is_away: bool = False

    def __call__(self, phase: str) -> None:
        if self.is_away:
            raise LedgerAway("it does not answer")
        self.phases.append(phase)


@dataclass
class Bench:
    """A fleet process that says what a test has it say, and ends when told."""

    fleet: FleetProcess
    told: Told
    script: Path

    def says(self, *reports: tuple[str, str], ends: bool = False) -> None:
        """Have the next process report so."""
        lines = [json.dumps({"kind": kind, "text": text}) for kind, text in reports]
        self.script.write_text(json.dumps({"lines": lines, "ends": ends}))

    def until(self, phase: str) -> list[str]:
        """Check until people were told that phase; return what problems came up."""
        deadline = time.monotonic() + PATIENCE_S
        found: list[str] = []
        while phase not in self.told.phases:
            assert time.monotonic() < deadline, self.told.phases
            found += [problem.text for problem in self.fleet.check()]
            time.sleep(0.02)
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench; nothing of its process is left afterwards."""
    script = tmp_path / "script.json"
    program = f"""
import json, pathlib, sys
script = json.loads(pathlib.Path({str(script)!r}).read_text())
for line in script["lines"]:
    print(line, flush=True)
if not script["ends"]:
    sys.stdin.read()
"""
    monkeypatch.setattr(fleet_process, "PROGRAM", program)
    monkeypatch.setattr(fleet_process, "RESTART_S", 0.0)
    paths = {"directory": str(tmp_path), "runtime": str(tmp_path), "empty": str(tmp_path)}
    told = Told(phases=[])
    settings = replace(SETTINGS, address="", **paths)
    bench = Bench(FleetProcess(settings, log=tmp_path / "log", tell=told), told, script)
    yield bench
    bench.fleet.shutdown()


def test_people_are_told_that_ray_is_being_started_and_nothing_once_it_is_up(bench: Bench) -> None:
    bench.says(("ready", "2 slots"))
    bench.fleet.start()
    assert bench.until("") == []
    assert bench.told.phases == ["starting Ray", ""]


def test_people_are_told_why_ray_is_started_again(bench: Bench) -> None:
    bench.says(("problem", "Ray did not start in 60 s: see ray.log"), ends=True)
    bench.fleet.start()
    found = bench.until("starting Ray again: Ray did not start in 60 s: see ray.log")
    assert "it was started again" in found[-1]
    assert bench.told.phases[0] == "starting Ray"


def test_a_fleet_that_ends_without_a_word_is_told_by_its_log(bench: Bench, tmp_path: Path) -> None:
    bench.says(ends=True)
    bench.fleet.start()
    bench.until(f"starting Ray again: see {tmp_path / 'log'}")


def test_a_phase_that_the_ledger_missed_is_told_once_it_is_back(bench: Bench) -> None:
    bench.says(("ready", "2 slots"))
    bench.told.is_away = True
    bench.fleet.start()
    deadline = time.monotonic() + PATIENCE_S
    while "ready" not in (bench.script.parent / "log").read_text():
        assert time.monotonic() < deadline
        bench.fleet.check()
    bench.told.is_away = False
    bench.until("")
    assert bench.told.phases == [""]
