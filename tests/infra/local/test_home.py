"""Files of a study that are replaced as a whole."""

import stat
from pathlib import Path

import pytest

from infra.local.home import write_atomically, written_atomically


def test_a_file_is_replaced_whole_and_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    """Also where the old one was readable by everybody."""
    path = tmp_path / "redis.url"
    path.write_text("old")
    path.chmod(0o644)

    write_atomically(path, "néw", mode=0o600)

    assert path.read_text(encoding="utf-8") == "néw"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "study.ledger.jsonl"
    path.write_text("old")

    def break_off() -> None:
        with written_atomically(path) as file:
            file.write(b"half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
