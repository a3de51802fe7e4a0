"""`clean`: environments of trials that no study uses any more go."""

import json
import shutil
from pathlib import Path

import pytest

from infra.local.home import environments_directory
from tests.infra.user import CONFIG, FAILURE, TRAIN, User
from trainer.stored_environments import STAMP, environment_key

LOCKED = {"pyproject.toml": "[project]\n", "uv.lock": "version = 1\n"}
OLD = "0123456789abcdef0123"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user with a study that has a lock file."""
    user = User.at(tmp_path)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    user.commit({"train.py": TRAIN, **LOCKED})
    user.write({"incumbent.toml": f'{CONFIG}sandbox = "none"\n'})
    user.done("submit", "--set", "LR=0.3")
    return user


def environment(name: str) -> Path:
    path = environments_directory() / name
    path.mkdir(parents=True)
    (path / STAMP).write_bytes(b"x" * 30_000_000)
    return path


@pytest.fixture
def used() -> Path:
    files = {name: text.encode() for name, text in LOCKED.items()}
    return environment(environment_key({**files, ".python-version": None}))


@pytest.fixture
def old() -> Path:
    return environment(OLD)


def test_a_machine_without_any_has_nothing_to_remove(tmp_path: Path) -> None:
    user = User.at(tmp_path)
    assert user.done("clean").startswith("0 of 0 environments removed")
    assert json.loads(user.done("clean", "--json")) == []


def test_what_no_study_uses_goes_and_what_one_uses_stays(user: User, used: Path, old: Path) -> None:
    said = user.done("clean").splitlines()
    assert f"   0.03 GB  {old}  removed" in said
    assert f"   0.03 GB  {used}  kept for {user.home.directory}" in said
    assert said[-1] == "1 of 2 environments removed, which no study uses: 0.03 GB"
    assert used.is_dir()
    assert not old.exists()


def test_a_dry_run_tells_the_same_and_removes_nothing(user: User, used: Path, old: Path) -> None:
    said = user.done("clean", "--dry-run")
    assert f"{old}  would be removed\n" in said
    assert said.endswith("1 of 2 environments would be removed, which no study uses: 0.03 GB\n")
    assert old.is_dir()


def test_programs_are_told_whose_each_is(user: User, used: Path, old: Path) -> None:
    found = {each["path"]: each for each in json.loads(user.done("clean", "--json"))}
    assert found[str(old)]["removed"]
    assert found[str(old)]["studies"] == []
    assert not found[str(used)]["removed"]
    assert found[str(used)]["studies"] == [str(user.home.directory)]
    assert 30_000_000 <= found[str(used)]["bytes"] < 31_000_000


def test_a_study_that_was_removed_uses_none(user: User, used: Path) -> None:
    shutil.rmtree(user.home.directory)
    user.done("clean")
    assert not used.exists()


def test_one_that_a_study_has_whose_file_this_version_cannot_read_stays(
    user: User, used: Path
) -> None:
    (user.home.directory / "study.json").write_text('{"schema": 99}')
    user.done("clean")
    assert used.is_dir()


def test_one_that_this_machine_needs_for_another_s_study_stays(user: User, used: Path) -> None:
    store = environments_directory().parent / "nodes" / "0123456789" / "study-0123456789"
    store.mkdir(parents=True)
    shutil.copytree(user.home.git, store / "repo.git")
    shutil.rmtree(user.home.directory)
    user.done("clean")
    assert used.is_dir()


def test_a_study_that_was_set_aside_will_not_run_again(user: User, used: Path) -> None:
    user.home.set_aside("failed-0123456789")
    user.done("clean")
    assert not used.exists()


def test_nothing_goes_where_a_study_does_not_tell_what_it_uses(user: User, old: Path) -> None:
    (user.home.git / "HEAD").write_text("")
    user.run("git", "init", "--quiet", user.variables["INCUMBENT_HOME"])  # is not asked instead
    said = user.refused(FAILURE, "clean")
    assert f"{user.home.git} does not tell which environment its study uses" in said
    assert f"remove {user.home.directory}" in said
    assert old.is_dir()
