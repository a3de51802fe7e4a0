"""Who holds the lock of a study's final run, and how it is ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.local import final_process
from infra.local.final_process import end_final, find_final, sole_final
from infra.local.home import StudyHome

HOLDER = """
import signal, sys
from pathlib import Path
from infra.local.final_process import sole_final
from infra.local.home import StudyHome
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with sole_final(StudyHome.read(Path(sys.argv[1]))):
    print("held", flush=True)
    signal.sigwait({signal.SIGTERM})
"""


@pytest.fixture
def home(incumbent_home: Path, tmp_path: Path) -> StudyHome:
    home = StudyHome.locate(tmp_path / "research", "mar5")
    home.create()
    return home


@contextmanager
def holder(home: StudyHome) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is the one final run of a study until it is told to end."""
    command = [sys.executable, "-c", HOLDER, str(home.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_a_final_run_that_has_just_begun_is_not_taken_for_the_last_one(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.final.write_text("12345678\n")  # of one that was killed
    found = []

    def looked_at() -> int:
        found.append(find_final(home))
        return 17

    with monkeypatch.context() as patched:
        patched.setattr(final_process.os, "getpid", looked_at)
        with sole_final(home):
            assert find_final(home) == 17
    assert found == [0]
    assert find_final(home) is None


def test_a_final_run_ends_when_it_is_told_to(home: StudyHome) -> None:
    assert not end_final(home)
    with holder(home) as process:
        assert find_final(home) == process.pid
        assert end_final(home)
        assert process.wait(30) == 0


@pytest.mark.parametrize("has_said_who_it_is", [True, False])
def test_a_final_run_that_begins_while_another_ends_is_left_alone(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch, *, has_said_who_it_is: bool
) -> None:
    with holder(home) as first:

        def happenings() -> Iterator[None]:
            assert first.wait(30) == 0
            with holder(home) as second:
                if not has_said_who_it_is:
                    os.truncate(home.final, 0)
                yield
                second.send_signal(signal.SIGTERM)
                assert second.wait(30) == 0, "nobody else had told it to"
            yield

        steps = happenings()
        with monkeypatch.context() as patched:
            patched.setattr(final_process, "time", SimpleNamespace(sleep=lambda _: next(steps)))
            assert end_final(home)
            assert find_final(home) is not None
        next(steps)
