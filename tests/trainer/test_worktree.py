"""A slot's worktree shows exactly the files of a commit, whatever was left in it."""

import errno
import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.git_command import GitError
from trainer.worktree import SlotWorktree, locked

Git = Callable[..., str]

FIRST = {
    "train.py": "print('first')\n",
    "src/model.py": "width = 1\n",
    "data/words.txt": "one\n",
    ".gitignore": "ignored/\n*.bin\n",
}


@pytest.fixture
def first(research: Any) -> str:
    return str(research.commit(FIRST, executable=("data/words.txt",)))


@pytest.fixture
def second(research: Any, first: str) -> str:
    return str(research.commit({"train.py": "print('second')\n", "src/extra/new.py": "x = 1\n"}))


@pytest.fixture
def worktree(research: Any, tmp_path: Path) -> SlotWorktree:
    return SlotWorktree(repository=research.bare, path=tmp_path / "worktrees" / "cpu-0")


def listing(root: Path) -> dict[str, tuple[str, int]]:
    """Contents and permissions of everything below `root`, but for git's own file."""
    found: dict[str, tuple[str, int]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if path != root / ".git":
                text = path.read_text() if stat.S_ISREG(mode) else stat.filemode(mode)[0]
                found[os.fspath(path.relative_to(root))] = (text, stat.S_IMODE(mode) & 0o700)
    return found


def fresh(research: Any, commit: str, folder: Path) -> dict[str, tuple[str, int]]:
    """What a worktree that nobody has used shows."""
    return listing(SlotWorktree(repository=research.bare, path=folder).checkout(commit))


def nested_repository(tree: Path, git: Git) -> None:
    git(tree, "init", "-q", "clone")
    (tree / "clone/file").write_text("x")
    git(tree / "clone", "add", ".")
    git(tree / "clone", "commit", "-qm", "x")
    git(tree / "clone", "worktree", "add", "-q", "../second", "-b", "b")


def repository_among_tracked_files(tree: Path, git: Git) -> None:
    git(tree / "src", "init", "-q")
    (tree / "src/left.txt").write_text("x")


def ignored_files(tree: Path, git: Git) -> None:
    (tree / "ignored").mkdir()
    (tree / "ignored/cache.bin").write_text("x")
    (tree / "src/weights.bin").write_text("x")
    (tree / ".git_is_not_this").write_text("x")


def read_only_things(tree: Path, git: Git) -> None:
    (tree / "locked/inner").mkdir(parents=True)
    (tree / "locked/inner/file").write_text("x")
    (tree / "locked/inner/file").chmod(0)
    (tree / "train.py").chmod(0o444)
    for folder in ("locked/inner", "locked", "src", "."):
        (tree / folder).chmod(0o500)


def unreadable_things(tree: Path, git: Git) -> None:
    (tree / "src").chmod(0)
    (tree / "data/words.txt").chmod(0)


def special_files(tree: Path, git: Git) -> None:
    os.mkfifo(tree / "pipe")
    os.mkfifo(tree / "src/pipe")
    (tree / "train.py").unlink()
    os.mkfifo(tree / "train.py")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tree)  # a socket's address is at most 108 bytes
        try:
            server.bind("socket")
        finally:
            os.chdir(here)


def odd_names(tree: Path, git: Git) -> None:
    for name in (b"-rf", b"new\nline", b"caf\xe9", b" ", b"$(touch x)", b".git ", b'"'):
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_text("x")


def staged_changes(tree: Path, git: Git) -> None:
    (tree / "train.py").write_text("staged")
    (tree / "added.py").write_text("staged")
    git(tree, "add", "--all")
    git(tree, "checkout", "-q", "-b", "mine")
    git(tree, "commit", "-qm", "mine")


def hidden_changes(tree: Path, git: Git) -> None:
    git(tree, "update-index", "--assume-unchanged", "train.py")
    git(tree, "update-index", "--skip-worktree", "src/model.py")
    (tree / "train.py").write_text("hidden")
    (tree / "src/model.py").write_text("hidden")


def same_size_and_time(tree: Path, git: Git) -> None:
    path = tree / "train.py"
    before = path.stat()
    path.write_text("PRINT('FIRST')\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def interrupted_git(tree: Path, git: Git) -> None:
    Path(git(tree, "rev-parse", "--absolute-git-dir"), "index.lock").touch()
    (tree / "train.py").write_text("changed")


def damaged_git_file(tree: Path, git: Git) -> None:
    (tree / ".git").write_text("gitdir: /nowhere\n")


def no_registration(tree: Path, git: Git) -> None:
    shutil.rmtree(git(tree, "rev-parse", "--absolute-git-dir"))


def damaged_registration(tree: Path, git: Git) -> None:
    Path(git(tree, "rev-parse", "--absolute-git-dir"), "commondir").write_text("")


def locked_registration(tree: Path, git: Git) -> None:
    git(tree, "worktree", "lock", os.fspath(tree))
    shutil.rmtree(tree)


def no_directory(tree: Path, git: Git) -> None:
    shutil.rmtree(tree)


def file_for_directory(tree: Path, git: Git) -> None:
    shutil.rmtree(tree)
    tree.write_text("x")


def files_and_folders_swapped(tree: Path, git: Git) -> None:
    (tree / "train.py").unlink()
    (tree / "train.py").mkdir()
    (tree / "train.py/inner").write_text("x")
    shutil.rmtree(tree / "src")
    (tree / "src").write_text("x")


def deep_folders(tree: Path, git: Git) -> None:
    top = os.open(tree, os.O_RDONLY)
    here = os.open(".", os.O_RDONLY)
    try:
        os.fchdir(top)
        for _ in range(1050):  # more than Python may recurse
            Path("deeper-and-deeper").mkdir()
            os.chdir("deeper-and-deeper")
    finally:
        os.fchdir(here)
        os.close(here)
        os.close(top)


MESSES = [
    nested_repository,
    repository_among_tracked_files,
    ignored_files,
    read_only_things,
    unreadable_things,
    special_files,
    odd_names,
    staged_changes,
    hidden_changes,
    same_size_and_time,
    interrupted_git,
    damaged_git_file,
    no_registration,
    damaged_registration,
    locked_registration,
    no_directory,
    file_for_directory,
    files_and_folders_swapped,
    deep_folders,
]


@pytest.mark.parametrize("mess", MESSES, ids=lambda mess: mess.__name__)
@pytest.mark.parametrize("is_same_process", [True, False], ids=["re-used", "found"])
def test_shows_the_next_commit_and_nothing_of_what_a_candidate_left(
    mess: Callable[[Path, Git], None],
    is_same_process: bool,
    worktree: SlotWorktree,
    research: Any,
    first: str,
    second: str,
    tmp_path: Path,
    as_user_git: Git,
) -> None:
    mess(worktree.checkout(first), as_user_git)
    if not is_same_process:
        worktree = SlotWorktree(repository=research.bare, path=worktree.path)

    for commit in (first, second):
        assert listing(worktree.checkout(commit)) == fresh(research, commit, tmp_path / commit)
        assert as_user_git(worktree.path, "rev-parse", "HEAD") == commit


def test_is_reused_without_being_made_anew(worktree: SlotWorktree, first: str, second: str) -> None:
    tree = worktree.checkout(first)
    made = tree.stat().st_ino
    (tree / "__pycache__").mkdir()
    (tree / "train.py").write_text("changed")

    worktree.checkout(second)

    assert tree.stat().st_ino == made
    assert (tree / "train.py").read_text() == "print('second')\n"
    assert not (tree / "__pycache__").exists()


def test_links_out_of_the_tree_are_removed_and_what_they_point_to_stays(
    worktree: SlotWorktree, first: str, second: str, tmp_path: Path
) -> None:
    outside = tmp_path / "precious"
    outside.mkdir(mode=0o500)
    keep = tmp_path / "keep.txt"
    keep.write_text("kept")
    keep.chmod(0o400)
    tree = worktree.checkout(first)
    shutil.rmtree(tree / "src")
    (tree / "src").symlink_to(tmp_path, target_is_directory=True)
    (tree / "train.py").unlink()
    (tree / "train.py").symlink_to(keep)
    (tree / "link").symlink_to(outside)
    (tree / "loop").symlink_to("loop")

    worktree.checkout(second)

    assert keep.read_text() == "kept"
    assert stat.S_IMODE(keep.stat().st_mode) == 0o400
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
    assert not (tree / "src").is_symlink()
    assert not (tree / "link").is_symlink()
    assert not (tree / "loop").is_symlink()


def test_a_link_in_place_of_the_tree_is_removed_alone(
    worktree: SlotWorktree, first: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    shutil.move(worktree.checkout(first), outside)
    worktree.path.symlink_to(outside)

    worktree.checkout(first)

    assert not worktree.path.is_symlink()
    assert (outside / "train.py").exists()


def test_a_planted_configuration_runs_nothing(
    worktree: SlotWorktree, first: str, second: str, tmp_path: Path, as_user_git: Git
) -> None:
    tree = worktree.checkout(first)
    ran = tmp_path / "ran"
    (tree / ".git").unlink()
    as_user_git(tree, "init", "-q")
    as_user_git(tree, "config", "filter.evil.smudge", f"touch {ran}; cat")
    as_user_git(tree, "config", "core.fsmonitor", f"touch {ran}; false")
    (tree / ".git/info/attributes").write_text("* filter=evil\n")

    worktree.checkout(second)

    assert not ran.exists()


def test_what_lies_in_a_submodule_does_not_survive(
    worktree: SlotWorktree, research: Any, first: str, as_user_git: Git
) -> None:
    as_user_git(research.checkout, "update-index", "--add", "--cacheinfo", f"160000,{first},sub")
    as_user_git(research.checkout, "commit", "-qm", "submodule")
    commit = research.publish()
    (worktree.checkout(commit) / "sub/left.txt").write_text("x")

    worktree.checkout(commit)

    assert list((worktree.path / "sub").iterdir()) == []


def test_a_commit_that_the_repository_lacks_is_an_error(worktree: SlotWorktree, first: str) -> None:
    worktree.checkout(first)
    with pytest.raises(GitError):
        worktree.checkout("0123456789" * 4)
    assert (worktree.checkout(first) / "train.py").exists()


def test_slots_of_one_repository_can_be_made_at_once(
    research: Any, first: str, tmp_path: Path
) -> None:
    failures: list[Exception] = []
    start = threading.Barrier(6)

    def make(number: int) -> None:
        slot = SlotWorktree(repository=research.bare, path=tmp_path / "worktrees" / f"cpu-{number}")
        start.wait()
        try:
            for _ in range(2):
                shutil.rmtree(slot.checkout(first))
        except (OSError, GitError) as error:
            failures.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_forgets_worktrees_whose_directories_are_gone(
    research: Any, first: str, tmp_path: Path, worktree: SlotWorktree
) -> None:
    gone = SlotWorktree(repository=research.bare, path=tmp_path / "worktrees" / "cpu-1")
    shutil.rmtree(gone.checkout(first))
    worktree.checkout(first)
    assert [entry.name for entry in (research.bare / "worktrees").iterdir()] == ["cpu-0"]


@pytest.mark.parametrize(
    "message",
    [
        "error: unable to write file train.py",
        "fatal: could not write to 'cpu-0/.git': No space left on device",
        "fatal: unable to write new index file",
    ],
)
def test_a_full_disk_is_told_from_other_failures(
    message: str,
    research: Any,
    first: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What git 2.39 printed on a tmpfs of 1 MiB, which a test may not mount everywhere.
    script = tmp_path / "bin/git"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "{message}" >&2\nexit 128\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    worktree = SlotWorktree(repository=research.bare, path=tmp_path / "worktrees" / "cpu-0")
    with pytest.raises(OSError, match="No space left") as caught:
        worktree.checkout(first)
    assert caught.value.errno == errno.ENOSPC


def test_a_lock_is_exclusive_and_freed_at_the_end(tmp_path: Path) -> None:
    inside: list[int] = []
    most = 0

    def enter() -> None:
        nonlocal most
        with locked(tmp_path / "lock"):
            inside.append(1)
            most = max(most, len(inside))
            threading.Event().wait(0.01)
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
