"""The doctor tells the truth of this machine, and of machines that are worse off."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.ours import PACKAGES
from infra.checks import machine_checks
from infra.checks.doctor import Report, _listener_lines, examine
from infra.checks.listeners import Listener, firewall_advice, outside_interfaces, running_studies
from infra.checks.machine_checks import CHECKS, Finding, Level
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome
from trainer.gpu import Gpu
from trainer.run_records import Enforcement

ROOT = Path(__file__).parents[3]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested is whether it is told from loopback

CONTROLLER = """
import socket, subprocess, sys
from pathlib import Path
from infra.local.controller_process import announce, sole_controller
from infra.local.home import StudyHome

home = StudyHome.read(Path(sys.argv[1]))
listening = socket.create_server(("127.0.0.1", 0))
with sole_controller(home):
    announce(home, metrics="http://127.0.0.1:9/metrics")
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()
"""
LISTENER = """
import socket, sys
listening = socket.create_server((sys.argv[1], 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(program: str, argument: str, **variables: str) -> Iterator[tuple[int, int]]:
    """Run a program in a session of its own; yields its process and the port it listens on."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


@pytest.fixture
def home(incumbent_home: Path, tmp_path: Path) -> StudyHome:
    home = StudyHome.locate(tmp_path / "research", "mar5")
    home.create()
    return home


def record_ray(home: StudyHome, pid: int) -> None:
    """Write down process `pid` as the study's Ray, as the fleet does."""
    created = psutil.Process(pid).create_time()
    facts = {"pid": pid, "created": created, "address": "127.0.0.1:1"}
    (home.directory / "ray.json").write_text(json.dumps(facts))


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave nothing on PATH but the folder that is returned."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_this_machine_can_run_studies(incumbent_home: Path) -> None:
    report = examine()
    assert set(CHECKS) < set(report.checks)
    assert report.checks["embedded server"].found.endswith("starts and stops")
    assert not report.has_failures, report.lines()


def test_every_warning_has_a_cure(incumbent_home: Path) -> None:
    worse = [found for found in examine().checks.values() if found.level is not Level.OK]
    assert [found for found in worse if not found.cure] == []


def test_a_report_fits_a_screen_and_loses_nothing() -> None:
    found = "kernel 6.1, " + "and so on " * 20
    checks = {
        "kernel": Finding(Level.OK, found),
        "GPUs": Finding(Level.WARNING, "none is seen", "install the driver, " + "or ask " * 15),
    }
    report = Report(checks=checks, studies=[], advice=["nft add rule " + "x " * 80])
    narrow = report.lines(72)
    assert all(len(line) <= 72 for line in narrow[:-1])
    assert narrow[1].startswith(" " * 17 + "so on and")
    assert " ".join(narrow).split() == " ".join(report.lines()).split()
    assert narrow[-1] == report.advice[0], "what is there to be copied is one line"
    assert report.lines()[0] == f"ok       kernel  {found.strip()}"


def test_lines_of_listeners_fit_a_screen() -> None:
    everywhere = Listener(process="raylet", pid=4711, address="10.0.0.5", port=10002)
    lines = _listener_lines([everywhere], 80)
    assert len(lines) > 1
    assert all(len(line) <= 80 for line in lines)
    (whole,) = _listener_lines([everywhere], 0)
    assert " ".join(lines).split() == whole.split()


def test_the_command_line_prints_the_report_and_imports_neither_ray_nor_torch(
    incumbent_home: Path,
) -> None:
    program = (
        "import sys; from infra.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'ray', 'torch', 'optuna'} & set(sys.modules)), file=sys.stderr)"
    )
    for option in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, "doctor", *option],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.stderr.strip() == "[]"
        assert done.returncode == 0, done.stdout
        if option:
            facts = json.loads(done.stdout)
            assert facts["ok"] is True
            assert {"name", "status", "found", "cure"} == set(facts["checks"][0])
            assert facts["studies"] == []
        else:
            assert "no study runs on this machine" in done.stdout
            assert "loopback" in done.stdout


def test_nothing_is_left_behind(incumbent_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        report = examine()
        assert report.checks["embedded server"].level is Level.OK
        assert [path.name for path in Path(folder).iterdir()] == [f"incumbent-{os.getuid()}"]
        assert list(Path(folder, f"incumbent-{os.getuid()}").iterdir()) == []
    assert not incumbent_home.exists()


def test_a_check_that_fails_is_a_failure_and_one_that_hangs_a_warning(
    incumbent_home: Path,
) -> None:
    end = threading.Event()

    def hang() -> Finding:
        end.wait()
        return Finding(Level.OK, "at last")

    def fail() -> Finding:
        raise OSError("the dog ate it")

    report = examine({"hangs": hang, "fails": fail}, patience_s=0.2)
    end.set()
    assert report.checks["hangs"].level is Level.WARNING
    assert "no answer within 0.2 s" in report.checks["hangs"].found
    assert report.checks["fails"] == Finding(Level.FAILURE, "OSError: the dog ate it")
    assert report.has_failures
    assert report.facts()["ok"] is False
    assert any(line.split()[:2] == ["failure", "fails"] for line in report.lines())


def test_what_strangers_call_things_cannot_write_to_the_terminal() -> None:
    report = Report(checks={"GPUs": Finding(Level.OK, "a\x1b[2Jb\nc")}, studies=[], advice=[])
    assert [line.split() for line in report.lines()[:2]] == [["ok", "GPUs", "ab"], ["c"]]


def test_a_git_that_is_too_old_or_missing_is_a_failure(no_programs: Path) -> None:
    missing = machine_checks.git()
    assert missing.level is Level.FAILURE
    assert "not installed" in missing.found
    (no_programs / "git").write_text("#!/bin/sh\necho git version 2.30.0\n")
    (no_programs / "git").chmod(0o755)
    old = machine_checks.git()
    assert old.level is Level.FAILURE
    assert "2.30.0 is too old" in old.found
    assert "apt install git" in old.cure


def test_uv_is_found_beside_our_python_or_missed(
    no_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    missing = machine_checks.uv()
    assert missing.level is Level.WARNING
    assert missing.cure.endswith("-m pip install uv")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "uv").touch(mode=0o755)
    assert machine_checks.uv() == Finding(Level.OK, str(tmp_path / "venv" / "uv"))


def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    found = machine_checks._library("no-such-ray", Level.FAILURE, needed_for="running trials")
    assert found.level is Level.FAILURE
    assert "running trials" in found.found
    assert found.cure.endswith("-m pip install no-such-ray")
    assert machine_checks.ray().level is Level.OK


@pytest.mark.parametrize(
    ("free", "level"), [(0.5e9, Level.FAILURE), (5e9, Level.WARNING), (50e9, Level.OK)]
)
def test_a_full_disk_is_told(
    free: float, level: Level, incumbent_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(int(100e9), 0, int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = machine_checks.disk()
    assert found.level is level
    assert ("INCUMBENT_HOME" in found.cure) == (level is not Level.OK)


def test_a_container_with_little_shared_memory_is_told_how_to_get_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil._ntuple_diskusage(64_000_000, 0, 64_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = machine_checks.shared_memory()
    assert found.level is Level.WARNING
    assert "64 MB" in found.found
    assert "docker run --shm-size=1g" in found.cure


def test_it_is_told_how_trials_are_limited_and_what_each_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine_checks, "machine_memory", lambda: 100_000_000_000)
    monkeypatch.setattr(machine_checks, "default_cpu_slots", lambda: 3)
    monkeypatch.setattr(machine_checks, "enforcement", lambda: Enforcement.CGROUP_V2)
    share = "30.0 GB of memory for each trial of 3 slots"
    assert machine_checks.limits() == Finding(Level.OK, f"exact, by cgroup v2; {share}")
    monkeypatch.setattr(machine_checks, "enforcement", lambda: Enforcement.WATCHDOG)
    monkeypatch.setattr(machine_checks, "why_no_group", lambda: "/x is not delegated")
    found = machine_checks.limits()
    assert found.level is Level.WARNING
    assert found.found == f"best effort, by a watchdog (/x is not delegated); {share}"
    assert "memory_gb" in found.cure or "systemd-run" in found.cure


def test_a_card_on_which_strangers_hold_memory_is_busy(incumbent_home: Path) -> None:
    free = Gpu(uuid="GPU-a", index=0, name="NVIDIA H200", total_mb=143771, used_mb=0.4)
    busy = Gpu(uuid="GPU-b", index=1, name="NVIDIA H200", total_mb=143771, used_mb=9000)
    found = machine_checks.judge_cards([free])
    assert found == Finding(Level.OK, "0: NVIDIA H200, 0 of 143771 MiB used")
    found = machine_checks.judge_cards([free, busy])
    assert found.level is Level.WARNING
    assert found.found.splitlines()[1:] == [
        "1: NVIDIA H200, 9000 of 143771 MiB used, 9000 by strangers",
        "busy, and therefore without trials: 1",
    ]
    assert "gpu_busy_mb" in found.cure


@pytest.mark.parametrize(
    ("variable", "check"),
    [
        ("INCUMBENT_HOME", machine_checks.state),
        ("INCUMBENT_LOCK_DIR", machine_checks.locks),
    ],
)
def test_a_folder_that_cannot_be_is_a_failure(
    variable: str, check: Callable[[], Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file" / "folder"))
    found = check()
    assert found.level is Level.FAILURE
    assert "Not a directory" in found.found
    assert variable in found.cure


def test_a_runtime_directory_whose_path_is_too_long_for_sockets_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    found = machine_checks.sockets()
    assert found.level is Level.FAILURE
    assert str(folder) in found.found
    assert found.cure == "export TMPDIR=/tmp"


def test_a_runtime_directory_that_others_can_enter_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"incumbent-{os.getuid()}").mkdir()
    (tmp_path / f"incumbent-{os.getuid()}").chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = machine_checks.sockets()
    assert found.level is Level.FAILURE
    assert "only you can enter" in found.found
    assert "remove it" in found.cure


def test_a_foreign_trainer_in_the_environment_is_a_failure_that_names_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    [site] = (tmp_path / "venv").glob("lib/python*/site-packages")
    # As an editable installation does it: ours are found last.
    (site / "ours.pth").write_text(f"{ROOT}\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    assert machine_checks.packages().level is Level.OK

    (site / "trainer").mkdir()
    (site / "trainer" / "__init__.py").touch()
    facts = site / "gym_trainer-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: gym-trainer\nVersion: 1.0\n")
    (facts / "top_level.txt").write_text("trainer\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    found = machine_checks.packages()
    assert found.level is Level.FAILURE
    assert f"'trainer' is imported from {site / 'trainer'}" in found.found
    assert "pip uninstall gym-trainer" in found.cure
    assert set(PACKAGES) == {"cluster", "proposer", "trainer", "eval", "infra"}


@pytest.mark.parametrize(
    ("address", "is_reachable"),
    [("127.0.0.1", False), ("::1", False), (EVERYWHERE, True), ("::", True), ("192.0.2.7", True)],
)
def test_what_is_not_on_loopback_can_be_reached(address: str, is_reachable: bool) -> None:
    assert Listener(process="p", pid=1, address=address, port=80).is_reachable is is_reachable
    assert not Listener(process="p", pid=1, address="/run/redis.sock").is_reachable


def test_the_firewall_advice_names_the_ways_in() -> None:
    advice = "\n".join(firewall_advice({"eth0": "192.0.2.7", "wlan0": "fd00::1"}))
    assert 'iifname { "eth0", "wlan0" }' in advice
    assert "ufw default deny incoming" in advice
    assert "nobody to keep out" in "\n".join(firewall_advice({}))
    assert not {"lo", "lo0"} & outside_interfaces().keys()


def test_a_stopped_study_is_not_listed(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    server.release(server.ensure())
    assert running_studies() == []


def test_a_running_study_is_listed_with_all_that_listens_for_it(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    client = server.ensure()
    mark = f"{home.id}/cpu-0/e1.1"
    with (
        listening(CONTROLLER, str(home.directory)) as controller,
        listening(LISTENER, EVERYWHERE) as ray,
        listening(LISTENER, "127.0.0.1", INCUMBENT_TRIAL=mark) as trial,
        listening(LISTENER, "127.0.0.1") as stranger,
    ):
        record_ray(home, ray[0])
        report = examine({})
        [study] = report.studies
    server.release(client)

    assert study.controller is not None
    assert study.controller.pid == controller[0]
    redis = next(one for one in study.listeners if one.process == "redis")
    assert {(one.pid, one.address, one.port) for one in study.listeners} == {
        (controller[0], "127.0.0.1", controller[1]),
        (ray[0], EVERYWHERE, ray[1]),
        (trial[0], "127.0.0.1", trial[1]),
        (redis.pid, str(server.socket), 0),
    }
    assert [one.pid for one in study.listeners if one.is_reachable] == [ray[0]]
    assert stranger[0] not in {one.pid for one in study.listeners}
    assert report.checks["listening sockets"].level is Level.WARNING
    assert f"study {home.id} of {home.repository}, controller {controller[0]}" in report.lines()
    [line] = [line for line in report.lines() if "REACHABLE" in line]
    assert f"{EVERYWHERE}:{ray[1]}" in line
    assert json.loads(json.dumps(report.facts()))["studies"][0]["ray"]["pid"] == ray[0]


def test_a_ray_whose_controller_was_killed_is_listed_with_the_cure(home: StudyHome) -> None:
    with listening(LISTENER, "127.0.0.1") as ray:
        record_ray(home, ray[0])
        [study] = running_studies()
        lines = examine({}).lines()
    assert study.controller is None
    assert [one.pid for one in study.listeners] == [ray[0]]
    assert any("`incumbent stop` ends it" in line for line in lines)
