"""Logs that processes append to for weeks are cut under them."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.growing_log import anew, cut
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES

MOST = HEAD_BYTES + 2 * TAIL_BYTES
CHATTER = "import sys\nfor line in sys.stdin: print('now', line.strip(), flush=True)"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


def test_a_log_that_is_short_is_let_be(log: Path) -> None:
    assert not cut(log)
    log.write_bytes(b"x" * MOST)
    assert not cut(log)
    assert log.stat().st_size == MOST


def test_a_long_one_keeps_its_beginning_and_its_end(log: Path) -> None:
    log.write_bytes(b"a" * HEAD_BYTES + b"b" * 3 * TAIL_BYTES + b"c" * TAIL_BYTES)
    assert cut(log)
    head, gap, tail = log.read_bytes().split(b"\n", 2)
    assert (head, tail) == (b"a" * HEAD_BYTES, b"c" * TAIL_BYTES)
    assert gap == b"[... %d bytes dropped ...]" % (3 * TAIL_BYTES)


def test_what_was_dropped_is_counted_from_the_beginning(log: Path) -> None:
    written = 0
    for letter in (b"a", b"b", b"c"):
        with log.open("ab") as file:
            file.write(letter * (MOST + 1))
        written += MOST + 1
        assert cut(log)
    head, gap, tail = log.read_bytes().split(b"\n", 2)
    assert (head, tail) == (b"a" * HEAD_BYTES, b"c" * TAIL_BYTES)
    assert gap == b"[... %d bytes dropped ...]" % (written - HEAD_BYTES - TAIL_BYTES)


def test_whoever_writes_goes_on_at_the_new_end(log: Path) -> None:
    with anew(log) as sink:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", CHATTER], stdin=subprocess.PIPE, stdout=sink, text=True
        )
        sink.write(b"x" * (MOST + 1))
    assert cut(log)
    short = log.stat().st_size
    process.communicate("here")
    assert log.stat().st_size == short + len(b"now here\n")
    assert log.read_bytes().endswith(b"xnow here\n")


def test_a_log_is_begun_anew_for_those_who_write_to_it_still(log: Path) -> None:
    with anew(log) as old:
        old.write(b"of yesterday")
        old.flush()
        with anew(log) as new:
            new.write(b"today, ")
            new.flush()
            old.write(b"and still")
            old.flush()
    assert log.read_bytes() == b"today, and still"


def test_one_process_cuts_at_a_time(log: Path) -> None:
    log.write_bytes(b"x" * (MOST + 1))
    with log.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not cut(log)
    assert cut(log)


def test_no_link_is_followed(log: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"x" * (MOST + 1))
    log.symlink_to(theirs)
    assert not cut(log)
    assert theirs.stat().st_size == MOST + 1
