"""A run's own copy of a tree: the same files, of the right user, and nothing that leads out."""

import os
import stat
from pathlib import Path

import pytest

from trainer.removal import Trash
from trainer.run_folder import RunFolder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "src" / "deep").mkdir(parents=True)
    (tree / "train.py").write_text("first")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "src" / "deep" / "data.bin").write_bytes(os.urandom(3 << 20))
    (tree / "src" / "up").symlink_to("../../secret")
    (tree / "src" / "folder").symlink_to(tmp_path)
    (tree / ".git").write_text("gitdir: elsewhere")
    (tmp_path / "secret").write_text("secret")
    return tree


def test_it_holds_a_copy_of_the_files_and_nothing_of_git(tree: Path, tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "runs" / "slot" / "0")
    run.fill(tree, owner=None)
    names = {os.fspath(path.relative_to(run.src)) for path in run.src.rglob("*")}
    assert names == {"run.sh", "train.py", "src", "src/deep", "src/deep/data.bin"} | {
        "src/up",
        "src/folder",
    }
    copied = (run.src / "src/deep/data.bin").read_bytes()
    assert copied == (tree / "src/deep/data.bin").read_bytes()
    assert stat.S_IMODE((run.src / "run.sh").stat().st_mode) & 0o111
    assert not stat.S_IMODE((run.src / "train.py").stat().st_mode) & 0o111
    assert os.fspath((run.src / "src/up").readlink()) == "../../secret"
    (run.src / "train.py").write_text("changed")
    assert (tree / "train.py").read_text() == "first"
    assert list(run.out.iterdir()) == []


def test_it_is_filled_anew_whatever_the_last_run_left(tree: Path, tmp_path: Path) -> None:
    run, trash = RunFolder.at(tmp_path / "run"), Trash(tmp_path / "trash")
    for _ in range(2):
        run.discard(trash)
        run.fill(tree, owner=None)
        assert not (run.src / "more").exists()
        (run.src / "more").mkdir()
        (run.src / "src").chmod(0)
        (run.out / "model").touch()
    run.discard(trash)
    assert list((tmp_path / "trash").iterdir()) == []
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_all_of_it_belongs_to_whom_the_trial_runs_as(tree: Path, tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "run")
    old = os.umask(0o077)
    try:
        run.fill(tree, owner=65529)
    finally:
        os.umask(old)
    for path in (run.src, run.out, *run.src.rglob("*")):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (65529, 65529)
    assert (tmp_path / "secret").stat().st_uid == 0
    assert stat.S_IMODE(run.src.stat().st_mode) == 0o755


def test_what_was_left_is_kept_and_an_empty_folder_is_not(tree: Path, tmp_path: Path) -> None:
    run, kept = RunFolder.at(tmp_path / "run"), tmp_path / "out" / "e1.1-1"
    run.fill(tree, owner=None)
    assert not run.keep(kept)
    assert not kept.exists()
    run.discard(Trash(tmp_path / "trash"))
    run.fill(tree, owner=None)
    (run.out / "model").write_text("first")
    assert run.keep(kept)
    assert (kept / "model").read_text() == "first"
    assert not run.out.exists()


def test_a_full_disk_says_so(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left") as caught:
        RunFolder.at(tmp_path / "run").fill(tree, owner=None)
    assert caught.value.errno == 28
