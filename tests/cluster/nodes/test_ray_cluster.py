"""The study's own Ray ends as a whole, also after some of it was killed; and nobody else's does."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import psutil
import pytest

from cluster.nodes.ray_cluster import PrivateRay


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # the names of its sockets must be short
        for name in ("runtime", "directory", "empty"):
            Path(folder, name).mkdir()
        yield Path(folder)


@pytest.fixture
def private(place: Path) -> Iterator[PrivateRay]:
    ray = PrivateRay(
        runtime=place / "runtime", directory=place / "directory", empty=place / "empty"
    )
    yield ray
    ray.stop()


def of_session(pid: int) -> dict[str, psutil.Process]:
    found = {}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found[" ".join(process.cmdline())] = process
        except (OSError, psutil.Error):
            continue
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_killed_ray_leaves_is_ended_with_it(private: PrivateRay) -> None:
    ray = private.start()

    def agents() -> list[psutil.Process]:
        return [process for line, process in of_session(ray.pid).items() if "Agent" in line]

    deadline = time.monotonic() + 90
    while len(agents()) < 2:
        assert time.monotonic() < deadline, of_session(ray.pid)
        time.sleep(0.1)
    held_up = agents()
    for agent in held_up:
        agent.send_signal(signal.SIGSTOP)  # so that it does not notice what happens to the rest
    while others := [each for each in of_session(ray.pid).values() if each not in held_up]:
        assert time.monotonic() < deadline, others
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)
    assert not ray.is_alive()
    assert set(of_session(ray.pid).values()) == set(held_up)
    private.stop()
    assert not of_session(ray.pid)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_appends_to_its_logs_which_can_be_cut_under_it(private: PrivateRay) -> None:
    ray = private.start()
    written = dict(chain(*map(files_written, of_session(ray.pid).values())))
    logs = {path: flags for path, flags in written.items() if path in set(private.logs)}
    assert {"gcs_server.out", "raylet.out"} <= {path.name for path in logs}
    assert not [path for path, flags in logs.items() if not flags & os.O_APPEND]


def files_written(process: psutil.Process) -> Iterator[tuple[Path, int]]:
    """Yield the files that a process has open to write to, with the flags of open(2)."""
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):
            about = Path(f"/proc/{process.pid}/fdinfo/{descriptor.name}").read_text()
            flags = int(re.findall(r"^flags:\s+(\d+)", about, re.MULTILINE)[0], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                yield descriptor.readlink(), flags


def test_somebody_elses_process_of_the_same_number_is_let_live(
    private: PrivateRay, place: Path
) -> None:
    stranger = subprocess.Popen(["sleep", "100"], cwd=place, start_new_session=True)
    try:
        facts = {"pid": stranger.pid, "created": 1.0, "address": "127.0.0.1:1"}
        (place / "directory" / "ray.json").write_text(json.dumps(facts))
        private.stop()
        assert stranger.poll() is None
        assert private.find() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("Traceback:\n  File node.py\n    raise\nException: timed out. Or so.\n12:00 INFO", "Exce"),
        (
            "Exception: The current node timed out during startup. This could happen because\n",
            "it was not up within 30 s: this machine may be too busy (",
        ),
        ("Usage stats are off.\n\nunknown option\n", "Usage stats are off. / unknown option"),
    ],
)
def test_of_a_start_that_failed_the_error_is_told(
    private: PrivateRay, place: Path, printed: str, said: str
) -> None:
    (place / "directory" / "ray.log").write_text(printed)
    assert private._last_words().startswith(said)
