"""Frozen files before a trial (a commit) and after it (a folder), over real git."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer import frozen
from trainer.editable import is_editable
from trainer.frozen import FrozenCheck, check_folder, frozen_changes
from trainer.git_command import GitError
from trainer.trial import CommitId
from trainer.worktree import SlotWorktree

EDITABLE = ("train.py", "src/")
FILES = {
    "train.py": "LR = 1\n",
    "prepare.py": "BUDGET = 300\n",
    "src/model.py": "x\n",
    "data/labels.txt": "0 1 2\n",
    "größe.txt": "1\n",
}


@pytest.fixture
def base(research: Any) -> CommitId:
    (research.checkout / "link").symlink_to("prepare.py")
    return CommitId(research.commit(FILES))


@pytest.fixture
def folder(research: Any, base: CommitId, tmp_path: Path) -> Path:
    """Where a trial of the base ran: a checkout without `.git`, as trials see it."""
    path = SlotWorktree(repository=research.bare, path=tmp_path / "slot").checkout(base)
    ignore = shutil.ignore_patterns(".git")
    return Path(shutil.copytree(path, tmp_path / "src", symlinks=True, ignore=ignore))


# --- before --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("train.py", True),
        ("src/deep/x.py", True),
        ("src", False),
        ("train.py/x", False),
        ("src2/x.py", False),
        ("prepare.py", False),
    ],
)
def test_an_entry_is_a_file_or_with_a_slash_everything_below(path: str, answer: bool) -> None:
    assert is_editable(path, EDITABLE) is answer


def test_a_commit_may_change_editable_files_and_add_some(research: Any, base: CommitId) -> None:
    commit = CommitId(research.commit({"train.py": "LR = 2\n", "src/new.py": "y\n"}))
    assert frozen_changes(research.bare, base, commit, EDITABLE) == ()
    assert frozen_changes(research.bare, base, base, EDITABLE) == ()


def test_a_commit_that_touches_frozen_files_is_told_which(research: Any, base: CommitId) -> None:
    (research.checkout / "data/labels.txt").unlink()
    changes = {"train.py": "LR = 2\n", "prepare.py": "BUDGET = 3000\n", "torch.py": "evil\n"}
    commit = CommitId(research.commit(changes))
    assert frozen_changes(research.bare, base, commit, EDITABLE) == (
        "data/labels.txt is frozen",
        "prepare.py is frozen",
        "torch.py is frozen",
    )


def test_a_mode_is_part_of_a_frozen_file_in_a_commit(research: Any, base: CommitId) -> None:
    commit = CommitId(research.commit({"prepare.py": "BUDGET = 300\n"}, executable=("prepare.py",)))
    assert frozen_changes(research.bare, base, commit, EDITABLE) == ("prepare.py is frozen",)


def test_an_editable_file_stays_a_file(research: Any, base: CommitId) -> None:
    (research.checkout / "train.py").unlink()
    (research.checkout / "train.py").symlink_to("/etc/passwd")
    commit = CommitId(research.commit({}))
    expected = ("train.py must stay a regular file",)
    assert frozen_changes(research.bare, base, commit, EDITABLE) == expected


def test_a_commit_that_is_not_there_is_an_error(research: Any, base: CommitId) -> None:
    with pytest.raises(GitError):
        frozen_changes(research.bare, base, CommitId("0" * 40), EDITABLE)


# --- after ---------------------------------------------------------------------------------------


def test_a_trial_may_change_editable_files_modes_and_add_files(
    research: Any, base: CommitId, folder: Path
) -> None:
    (folder / "train.py").write_text("import os\n")
    (folder / "src/model.py").unlink()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "prepare.cpython-311.pyc").write_bytes(b"x")
    (folder / "prepare.py").chmod(0o755)
    assert check_folder(research.bare, base, folder, EDITABLE) == FrozenCheck()


def same_size(folder: Path) -> None:
    path = folder / "prepare.py"
    times = path.stat()
    path.write_text("BUDGET = 999\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def grown(folder: Path) -> None:
    with (folder / "prepare.py").open("a") as file:
        file.write("BUDGET = 3000\n")


def removed(folder: Path) -> None:
    (folder / "prepare.py").unlink()


def linked(folder: Path) -> None:
    (folder / "prepare.py").rename(folder / "moved.py")
    (folder / "prepare.py").symlink_to("moved.py")


def named_twice(folder: Path) -> None:
    os.link(folder / "prepare.py", folder / "other.py")


def piped(folder: Path) -> None:
    (folder / "prepare.py").unlink()
    os.mkfifo(folder / "prepare.py")


def swapped_folder(folder: Path) -> None:
    (folder / "data").rename(folder / "data2")
    (folder / "data").symlink_to("data2")


def redirected(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("train.py")


def odd_name(folder: Path) -> None:
    (folder / "größe.txt").write_text("2\n")


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (same_size, "prepare.py was changed"),
        (grown, "prepare.py was changed"),
        (removed, "prepare.py was removed"),
        (linked, "prepare.py was replaced: it is a symbolic link or lies behind one"),
        (named_twice, "prepare.py was replaced: it has 2 names (hard links)"),
        (piped, "prepare.py was replaced: it is a pipe"),
        (swapped_folder, "data/labels.txt was replaced: it is a symbolic link or lies behind one"),
        (redirected, "link was changed"),
        (odd_name, "größe.txt was changed"),
    ],
)
def test_what_was_done_to_a_frozen_file_is_told(
    tamper: Callable[[Path], None], words: str, research: Any, base: CommitId, folder: Path
) -> None:
    tamper(folder)
    assert check_folder(research.bare, base, folder, EDITABLE) == FrozenCheck(changed=(words,))


def test_a_folder_that_is_gone_or_a_link_is_told(
    research: Any, base: CommitId, folder: Path, tmp_path: Path
) -> None:
    gone = FrozenCheck(changed=("the folder that it ran in was removed",))
    folder.rename(tmp_path / "moved")
    assert check_folder(research.bare, base, folder, EDITABLE) == gone
    folder.symlink_to(tmp_path / "moved")
    assert check_folder(research.bare, base, folder, EDITABLE) == gone


def test_files_that_git_itself_converts_are_what_they_should_be(
    research: Any, base: CommitId, tmp_path: Path
) -> None:
    files = {
        ".gitattributes": "*.bat eol=crlf\n*.u16 working-tree-encoding=UTF-16LE\nid.txt ident\n",
        "run.bat": "one\ntwo\n",
        "id.txt": "$Id$\n",
    }
    (research.checkout / "a.u16").write_bytes("größe".encode("utf-16-le"))
    commit = CommitId(research.commit(files))
    folder = SlotWorktree(repository=research.bare, path=tmp_path / "slot").checkout(commit)
    assert b"\r\n" in (folder / "run.bat").read_bytes(), "or this test shows nothing"
    assert check_folder(research.bare, commit, folder, EDITABLE) == FrozenCheck()
    (folder / "run.bat").write_bytes(b"one\r\nten\r\n")
    (folder / "a.u16").unlink()
    assert check_folder(research.bare, commit, folder, EDITABLE).changed == (
        "a.u16 was removed",
        "run.bat was changed",
    )


def test_nothing_runs_that_a_trial_plants_for_git(
    research: Any, base: CommitId, folder: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> '{ran}'\ncat\n")
    program.chmod(0o755)
    (folder / "prepare.py").write_text("BUDGET = 999\n")
    (folder / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "hooks" / "post-checkout").symlink_to(program)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    for name in ("objects", "refs"):
        (folder / ".git" / name).mkdir()
    (folder / ".git" / "config").write_text(
        f'[core]\n fsmonitor = {program}\n[filter "evil"]\n clean = {program}\n'
        f' smudge = {program}\n[diff "evil"]\n textconv = {program}\n'
    )
    check = check_folder(research.bare, base, folder, EDITABLE)
    assert check.changed == ("prepare.py was changed",)
    assert not ran.exists(), ran.read_text()
    subprocess.run(["git", "status"], cwd=folder, check=False, capture_output=True)
    assert ran.exists(), "plain git in that folder would have run it"


def test_the_work_is_bounded_and_what_was_left_out_is_counted(
    research: Any, base: CommitId, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_size(folder)
    removed_labels = folder / "data/labels.txt"
    removed_labels.unlink()
    monkeypatch.setattr(frozen, "MOST_FILE_BYTES", 5)
    check = check_folder(research.bare, base, folder, EDITABLE)
    assert check == FrozenCheck(changed=("data/labels.txt was removed",), unchecked=1)
    monkeypatch.setattr(frozen, "MOST_FILES", 1)
    assert check_folder(research.bare, base, folder, EDITABLE).unchecked == 3


def test_thousands_of_changes_are_counted(
    research: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "MOST_NAMED", 2)
    commit = CommitId(research.commit({f"{number}.txt": "1\n" for number in range(5)}))
    (tmp_path / "src").mkdir()
    assert check_folder(research.bare, commit, tmp_path / "src", EDITABLE).changed == (
        "0.txt was removed",
        "1.txt was removed",
        "and 3 more",
    )
