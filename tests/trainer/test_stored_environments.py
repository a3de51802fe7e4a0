"""Environments that are kept: whose they are, what they take, and how one goes."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.stored_environments import (
    LOCK_FILES,
    STAMP,
    environment_key,
    freed_bytes,
    keys_in,
    lock_of,
    remove,
    stored,
)

Git = Callable[..., str]
LOCKED = {"pyproject.toml": "[project]\n", "uv.lock": "version = 1\n"}


def key_of(files: dict[str, str]) -> str:
    return environment_key(
        {name: files[name].encode() if name in files else None for name in LOCK_FILES}
    )


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    path = tmp_path / "envs" / "0123456789"
    (path / "lib").mkdir(parents=True)
    (path / STAMP).touch()
    (path / "lib" / "torch").write_bytes(b"x" * 100_000)
    return path


@pytest.mark.parametrize("ref", ["refs/source/base", "refs/node/base", "refs/incumbent/s/e0"])
def test_a_repository_tells_which_its_study_may_use(
    research: Any, as_user_git: Git, ref: str
) -> None:
    as_user_git(research.bare, "update-ref", ref, research.commit(LOCKED))
    assert keys_in(research.bare) == {key_of(LOCKED)}


def test_each_lock_file_counts_and_many_commits_of_one_are_one(
    research: Any, as_user_git: Git
) -> None:
    changes = [{"train.py": "1"}, {"train.py": "2"}, {".python-version": "3.12\n"}]
    for number, change in enumerate([LOCKED, *changes]):
        as_user_git(research.bare, "update-ref", f"refs/node/{number}", research.commit(change))
    assert keys_in(research.bare) == {key_of(LOCKED), key_of({**LOCKED, **changes[-1]})}


def test_candidates_are_tried_in_the_environment_of_the_base(
    research: Any, as_user_git: Git
) -> None:
    as_user_git(research.bare, "update-ref", "refs/incumbent/s/e1", research.commit(LOCKED))
    assert keys_in(research.bare) == set()


def test_what_the_cache_of_uv_holds_too_is_not_freed(environment: Path, tmp_path: Path) -> None:
    alone = freed_bytes(environment)
    assert 100_000 <= alone < 120_000
    (environment / "lib" / "again").hardlink_to(environment / "lib" / "torch")
    assert freed_bytes(environment) == alone
    (tmp_path / "cache").hardlink_to(environment / "lib" / "torch")
    assert freed_bytes(environment) < 20_000


def test_one_that_nobody_uses_goes_with_all_that_is_in_it(environment: Path) -> None:
    assert remove(environment, lambda: {"another"})
    assert stored(environment.parent) == []


def test_one_that_is_in_use_after_all_stays(environment: Path) -> None:
    assert not remove(environment, lambda: {environment.name})
    assert (environment / STAMP).exists()


def test_one_that_is_being_made_stays(environment: Path) -> None:
    with lock_of(environment).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not remove(environment, set)
    assert (environment / STAMP).exists()


def test_the_half_of_one_is_never_taken_for_the_whole(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.stored_environments.remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(environment, set)
    assert not (environment / STAMP).exists()
