"""A log that is read while it grows, is cut in the middle, and is written anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.log_capture import HEAD_BYTES, TAIL_BYTES, LogFile
from trainer.log_follower import LogFollower
from trainer.safe_read import SafeFolder, Unsafe

WHOLE = HEAD_BYTES + TAIL_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "e1.1.log"


@pytest.fixture
def written(path: Path) -> LogFile:
    return LogFile(str(path))


@pytest.fixture
def log(path: Path, written: LogFile) -> LogFollower:
    return LogFollower(path)


def test_what_has_come_is_read_once(path: Path, written: LogFile, log: LogFollower) -> None:
    written.write(b"step 1\rstep 2\n")
    assert log.news() == "step 1\rstep 2\n"
    assert log.news() == ""
    written.write(b"\xff done\n")
    assert log.news() == "� done\n"


def test_what_comes_once_the_middle_is_dropped_is_read_as_it_comes(
    written: LogFile, log: LogFollower
) -> None:
    written.write(b"x" * WHOLE)
    written.flush()
    assert log.news() == "x" * WHOLE
    for text in ("loss: 1\n", "loss: 2\n", "Traceback\n"):
        written.write(text.encode())
        written.flush()
        assert log.news() == text
        assert log.news() == ""


def test_what_was_dropped_between_two_looks_is_counted(written: LogFile, log: LogFollower) -> None:
    written.write(b"a" * WHOLE)
    log.news()
    written.write(b"b" * (TAIL_BYTES + 7))
    written.flush()
    assert log.news() == "\n[... 7 bytes dropped ...]\n" + "b" * TAIL_BYTES


def test_of_what_was_dropped_the_part_behind_the_head_is_counted(
    path: Path, written: LogFile, log: LogFollower
) -> None:
    written.write(b"a" * 9)
    assert log.news() == "a" * 9
    written.write(b"a" * (HEAD_BYTES - 9) + b"b" * 12345 + b"c" * TAIL_BYTES)
    written.flush()
    assert log.news() == "a" * (HEAD_BYTES - 9) + "\n[... 12345 bytes dropped ...]\n" + "c" * (
        TAIL_BYTES
    )
    assert LogFollower(path).news() == path.read_text()  # as a whole it is what it was


def test_a_character_that_comes_in_two_parts_is_one(written: LogFile, log: LogFollower) -> None:
    parts = "loss ↓\n".encode()
    written.write(parts[:6])
    assert log.news() == "loss "
    written.write(parts[6:])
    assert log.news() == "↓\n"
    written.write(b"\xe2\x86")
    assert log.news() == ""
    assert log.news(is_last=True) == "�"


def test_a_character_in_two_parts_is_one_when_the_middle_is_dropped_too(
    written: LogFile, log: LogFollower
) -> None:
    written.write(b"x" * WHOLE + b"\xe2")
    written.flush()
    log.news()
    written.write(b"\x86\x93")
    written.flush()
    assert log.news() == "↓"


def test_a_log_that_was_begun_anew_is_read_again(path: Path, log: LogFollower) -> None:
    path.write_bytes(b"of an earlier one")
    log.news()
    path.write_bytes(b"new\n")
    assert log.news() == "new\n"
    path.write_bytes(b"")
    assert log.news() == ""


def test_what_only_looks_like_the_gap_is_text(written: LogFile, log: LogFollower) -> None:
    lie = b"\n[... 5 bytes dropped ...]\n"
    written.write(b"x" * HEAD_BYTES + lie)
    assert log.news() == "x" * HEAD_BYTES + lie.decode()
    written.write(b"y")
    assert log.news() == "y"


def test_an_end_that_is_just_being_written_is_read_when_it_is_there(
    written: LogFile, log: LogFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.write(b"x" * WHOLE)
    log.news()
    written.write(b"1\n")
    read: Callable[[SafeFolder, str, int], bytes] = SafeFolder.read

    def as_it_is_written(folder: SafeFolder, name: str, most: int) -> bytes:
        found = read(folder, name, most)
        written.flush()
        return found

    monkeypatch.setattr(SafeFolder, "read", as_it_is_written)
    assert log.news() == ""
    assert log.news() == "1\n"


def test_a_link_in_a_logs_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(Unsafe):
        LogFollower(path).news()
