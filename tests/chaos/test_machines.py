"""Machines are what they are taken for: apart from the host and each other, and gone afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.machines import ROOT, Machine, Rack, obstacle

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines")
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 7), 1).close()"


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    with Rack(tmp_path / "outputs") as made:
        yield made


@pytest.fixture
def machine(rack: Rack) -> Machine:
    return rack.add("alone")


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reaches(one: Machine, other: Machine) -> str:
    """Return how a connection to a port ends on which nobody listens."""
    words = one.run(sys.executable, "-c", CONNECT, other.address).stderr.split()
    return next(word for word in words if word in {"ConnectionRefusedError:", "TimeoutError:"})


def test_it_has_a_name_processes_and_a_disk_of_its_own(machine: Machine) -> None:
    machine.start("sleep", "101")
    wait(lambda: machine.find("sleep", "101"))
    (found,) = machine.find("sleep", "101")
    assert found.pid < 100
    assert b"INCUMBENT_HOME=/mnt/state" in found.about
    assert machine.run("hostname").stdout == "alone\n"
    assert machine.run("sh", "-c", "echo here > note").returncode == 0
    assert machine.outside("note").read_text() == "here\n"
    assert not (ROOT / "note").exists()
    machine.signal(found.pid)
    wait(lambda: not machine.processes())


def test_a_loss_of_power_ends_all_and_spares_the_disk(machine: Machine) -> None:
    (machine.outside("note")).write_text("here\n")
    command = machine.start("sleep", "102")
    wait(lambda: machine.find("sleep", "102"))
    machine.power_off()
    assert command.process.returncode is not None
    assert not running("sleep 102")
    assert (machine.processes(), machine.is_on) == ([], False)
    machine.boot()
    assert machine.run("cat", "note").stdout == "here\n"


def test_a_cable_is_cut_and_healed(rack: Rack, machine: Machine) -> None:
    other = rack.add("other")
    assert reaches(machine, other) == "ConnectionRefusedError:"
    other.cut()
    assert reaches(machine, other) == "TimeoutError:"
    other.heal()
    wait(lambda: reaches(machine, other) == "ConnectionRefusedError:")


def test_a_pause_stops_everything_and_ends(machine: Machine) -> None:
    command = machine.start("sh", "-c", "while :; do echo; sleep 0.01; done")
    wait(lambda: command.output)
    machine.pause()
    assert {process.state for process in machine.processes()} == {"T"}
    before = command.output
    machine.resume()
    wait(lambda: len(command.output) > len(before))
    short = machine.start("sleep", "0.1")
    machine.pause()
    machine.resume()
    assert short.wait(10) == 0  # who waits for it out here had stopped, too


def test_a_disk_is_full_for_a_while(machine: Machine) -> None:
    write = ("sh", "-c", "head -c 100000 /dev/zero > more")
    machine.fill_disk()
    assert "No space left" in machine.run(*write).stderr
    machine.free_disk()
    assert machine.run(*write).returncode == 0


def test_nothing_is_left_whether_it_is_closed_or_its_maker_killed(tmp_path: Path) -> None:
    before = traces()
    with Rack(tmp_path / "outputs") as rack:
        rack.add("one").start("sleep", "103")
        rack.add("two")
        wait(lambda: running("sleep 103"))
    assert not running("sleep 103")
    assert traces() == before
    program = (
        "import sys, time; from pathlib import Path; from tests.chaos.machines import Rack\n"
        "with Rack(Path(sys.argv[1])) as rack:\n"
        "    rack.add('one').start('sleep', '104')\n    time.sleep(100)\n"
    )
    maker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "outputs")])
    try:
        wait(lambda: running("sleep 104"))
    finally:
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    wait(lambda: not running("sleep 104"))
    wait(lambda: traces() == before)


def traces() -> tuple[object, ...]:
    """What the host shows of machines: links, mounts, and processes that hold something."""
    links = sorted(path.name for path in Path("/sys/class/net").iterdir())
    mounts = Path("/proc/self/mounts").read_text()
    mine = [line for line in mounts.splitlines() if str(ROOT) in line.split()]
    return [name for name in links if "port" in name or "br0" in name], mine


def running(line: str) -> list[str]:
    """Return the processes of the host with a command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if os.fsencode(line) in words and b"nsenter" not in words and state != "Z":
                found.append(folder.name)
    return found
