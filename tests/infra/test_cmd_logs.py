"""Reading a log while it grows, and when it is not what it seems."""

from pathlib import Path

import pytest

from infra.cli.cmd_logs import _read
from trainer.safe_read import Unsafe


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "e1.1.log"


def test_what_is_new_is_read_and_progress_lines_come_apart(log: Path) -> None:
    log.write_bytes(b"step 1\rstep 2\n")
    assert _read(log, 0) == ("step 1\nstep 2\n", 14)
    assert _read(log, 14) == ("", 14)
    with log.open("ab") as file:
        file.write(b"\xff done\n")
    assert _read(log, 14) == ("� done\n", 21)


def test_a_log_that_was_cut_is_read_again(log: Path) -> None:
    log.write_bytes(b"new\n")
    assert _read(log, 14) == ("new\n", 4)
    log.write_bytes(b"")
    assert _read(log, 14) == ("", 0)


def test_a_link_in_a_logs_place_is_not_followed(log: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    log.symlink_to(tmp_path / "secret")
    with pytest.raises(Unsafe):
        _read(log, 0)
