"""A disk without room: a real one, which is filled and freed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.git import room
from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.room import FULL_S, PAUSE_S, NoRoom, needs_room, with_room
from cluster.git.study_repository import StudyRepository
from tests.cluster.small_disk import SmallDisk, disk
from trainer.git_command import GitError

__all__ = ["disk"]  # a fixture
PATCH = "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n-LR = 1\n+LR = 4\n DEPTH = 2\n"


@pytest.fixture
def study(disk: SmallDisk, make_study):
    made = make_study(path=disk.path)
    made.source.git("checkout", "--quiet", "-b", "idea")
    made.source.commit({"train.py": "LR = 5\nDEPTH = 2\n"})
    return made


def test_what_needs_room_says_so_and_may_be_repeated(disk: SmallDisk, study) -> None:
    first, second = study.candidate("LR = 2\nDEPTH = 2\n"), study.candidate("LR = 1\nDEPTH = 3\n")
    study.keep("e1", first.commit)
    head = study.promote(first)
    writes: tuple[Callable[[], object], ...] = (
        lambda: study.candidate("LR = 3\nDEPTH = 2\n"),
        lambda: study.patch(PATCH),
        lambda: study.submit("idea"),
        lambda: study.merge(head, second.commit),
        lambda: study.keep("e2", second.commit),
        lambda: study.repository.move_refs({"e1": second.commit}),
        lambda: study.repository.tag("final-1", first.commit, "told"),
        lambda: study.promote(second, head, experiment="e2"),
        study.repository.check_room,
    )
    refs = study.git("for-each-ref")
    disk.fill()
    for write in writes:
        with pytest.raises(NoRoom, match="no room on the disk"):
            write()
    assert study.git("for-each-ref") == refs
    study.git("fsck", "--strict")
    disk.free()
    for write in writes:
        assert not isinstance(write(), Rejected)
    study.git("fsck", "--strict")


def test_a_disk_that_takes_a_part_of_a_file_is_full(disk: SmallDisk, study) -> None:
    text = "".join(f"# {os.urandom(30).hex()}\n" for _ in range(1000))
    disk.fill(spare=4 * 4096)
    with pytest.raises(NoRoom):
        study.candidate(text)


def test_a_kept_candidate_is_kept_though_refs_cannot_be_packed(disk: SmallDisk, study) -> None:
    made = study.candidate("LR = 2\nDEPTH = 2\n")
    study.keep("e1", made.commit)
    study.repository._refs._loose = 1000
    # The lock of what is to be packed stands for a disk that has room for one small file alone.
    (disk.path / "packed-refs.lock").touch()
    study.keep("e2", made.commit)
    assert study.git("rev-parse", "refs/incumbent/mar5/e2") == made.commit


def test_a_git_that_is_killed_says_nothing_of_the_patch(
    make_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study()
    places = os.environ["PATH"]
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$1" = apply ] && kill -9 $$\nPATH={places!r}\nexec git "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{places}")
    whole, study.repository = study.repository, StudyRepository.open(study.path, study="mar5")
    with pytest.raises(GitError, match="git apply"):
        study.patch(PATCH)
    study.repository = whole
    assert isinstance(study.patch(PATCH), Candidate)


@pytest.mark.parametrize(
    "patch",
    [
        PATCH.replace("LR = 1", "LR = 9"),
        PATCH.replace("1,2 +1,2", "1,9 +1,9"),
        PATCH.replace("-LR = 1\n+LR = 4", " LR = 1"),
        PATCH.replace("train.py", "none.py"),
    ],
)
def test_what_git_says_of_a_patch_is_a_reason_to_reject_it(make_study, patch: str) -> None:
    assert isinstance(make_study().patch(patch), Rejected)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_the_system_and_git_name_the_same_troubles(number: int) -> None:
    for error in (
        OSError(number, os.strerror(number), "/a"),
        GitError(("apply",), 128, f"fatal: unable to write x: {os.strerror(number)}"),
    ):
        with pytest.raises(NoRoom, match=os.strerror(number)), needs_room():
            raise error


def test_other_troubles_stay_what_they_are() -> None:
    for error in (PermissionError(errno.EACCES, "denied"), GitError(("apply",), 128, "fatal: bad")):
        with pytest.raises(type(error)), needs_room():
            raise error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(room, "time", SimpleNamespace(sleep=made.append))
    return made


def test_the_wait_is_told_once_and_what_was_begun_is_put_right_first(
    waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def act() -> None:
        if len(waits) in {0, 2}:  # somebody else takes what has just come free
            raise NoRoom("full")
        done.append("act")

    def recover() -> None:
        if len(waits) == 1:
            raise NoRoom("full")
        done.append("recover")

    with caplog.at_level("INFO", "incumbent"):
        with_room(act, recover=recover)
    assert done == ["recover", "recover", "act"]
    assert [record.message for record in caplog.records] == [
        f"full: waiting for up to {FULL_S:.0f} s",
        f"there is room on the disk again, after {3 * PAUSE_S:.0f} s",
    ]


def test_a_disk_that_stays_full_is_given_up(waits: list[float]) -> None:
    def act() -> None:
        raise NoRoom("full")

    with pytest.raises(NoRoom):
        with_room(act, recover=lambda: None)
    assert sum(waits) == FULL_S
    with pytest.raises(NoRoom):  # each action has its own patience
        with_room(act, recover=lambda: None)
    assert sum(waits) == 2 * FULL_S


def test_a_new_study_on_a_full_disk_is_told(disk: SmallDisk, make_repository) -> None:
    source = make_repository()
    disk.fill()
    with pytest.raises(NoRoom):
        StudyRepository.create(disk.path, study="s", source=source.path, base="HEAD")
