"""Rid of what candidates left, and nobody waits for it."""

import os
from pathlib import Path

import pytest

from trainer import removal
from trainer.removal import Trash, remove_tree


def fill(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        (folder / str(n)).touch()
    return folder


def test_a_removal_may_be_broken_off_and_gone_on_with(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 100)
    assert not remove_tree(folder, within_s=0.0)
    assert folder.exists()
    assert remove_tree(folder)
    assert not folder.exists()


def test_what_is_thrown_away_is_out_of_its_place_and_gone(tmp_path: Path) -> None:
    trash = Trash(tmp_path / "trash")
    folder, file, link = fill(tmp_path / "a", 3), tmp_path / "b", tmp_path / "c"
    (folder / "1").chmod(0)
    folder.chmod(0)
    file.touch()
    link.symlink_to(fill(tmp_path / "elsewhere", 1))
    trash.throw(folder, file, link, tmp_path / "not there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "trash"]
    assert list((tmp_path / "trash").iterdir()) == []
    assert (tmp_path / "elsewhere" / "0").exists()


def test_too_much_is_left_to_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_AT_ONCE_S", 0.0)
    monkeypatch.setattr(removal, "_CLOSE_S", 60.0)
    trash = Trash(tmp_path / "trash")
    trash.throw(fill(tmp_path / "a", 10))
    assert not (tmp_path / "a").exists()
    trash.close()
    assert list((tmp_path / "trash").iterdir()) == []


def test_what_an_earlier_process_has_left_is_removed_with_the_next(tmp_path: Path) -> None:
    (tmp_path / "trash").mkdir()
    fill(tmp_path / "trash" / "old", 10)
    trash = Trash(tmp_path / "trash")
    trash.throw(fill(tmp_path / "a", 1))
    remover = trash._remover
    assert remover is not None
    os.waitid(os.P_PID, remover.pid, os.WEXITED | os.WNOWAIT)
    assert list((tmp_path / "trash").iterdir()) == []
    trash.close()
