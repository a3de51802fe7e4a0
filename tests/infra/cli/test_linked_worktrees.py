"""Linked worktrees of the researcher's repository: all are of one study."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from infra.display.attach import Left
from infra.display.closing import last_words
from infra.local.study import opened
from tests.infra.researchers import researcher, studied, user
from tests.infra.user import CONFIG, TRAIN, USAGE, User
from trainer.process_tree import MARK_VARIABLE

__all__ = ["researcher", "studied", "user"]  # fixtures


@pytest.fixture
def beside(studied: User) -> User:
    """The same user in a linked worktree, in which an idea is committed to a branch."""
    folder = studied.folder.parent / "idea"
    studied.git("worktree", "add", "--quiet", "-b", "idea", str(folder))
    beside = replace(studied, folder=folder)
    beside.write({"train.py": TRAIN.replace("0.1", "0.05")})
    beside.git("commit", "--quiet", "--all", "--message=A lower rate")
    return beside


def test_its_study_is_that_of_the_repository(studied: User, beside: User) -> None:
    facts = json.loads(beside.done("status", "--json"))
    assert facts["paths"]["repository"] == str(studied.folder)
    assert facts["queue"]["submitted"] == 1
    assert beside.done("tell", "a word") == studied.done("tell", "a word")
    (beside.folder / "deep").mkdir()
    assert replace(beside, folder=beside.folder / "deep").done("log") == studied.done("log")


def test_experiments_are_submitted_from_it_with_the_configuration_of_the_main_checkout(
    studied: User, beside: User
) -> None:
    beside.done("submit", "--branch", "idea")
    patch = beside.git("diff", "main", "idea", "--", "train.py")
    beside.write({"my.patch": patch.replace("0.05", "0.07")})
    beside.done("submit", "--patch", "my.patch")
    with opened(studied.home) as study:
        tips = [submission.tip for submission in study.state().submissions]
    assert tips == ["", beside.git("rev-parse", "idea").strip(), ""]


def test_its_own_configuration_counts_before_that_of_the_main_checkout(
    studied: User, beside: User
) -> None:
    beside.write({"incumbent.toml": CONFIG.replace('"loss"', '"val_bpb"')})
    assert "was begun to minimize loss" in beside.refused(USAGE, "submit", "--set", "LR=0.4")
    beside.write({"incumbent.toml": CONFIG.replace('"mar5"', '"april"')})
    beside.done("submit", "--set", "LR=0.4")
    assert json.loads(beside.done("status", "--json"))["study"] == "april"
    assert json.loads(studied.done("status", "--json"))["study"] == "mar5"


def test_who_stops_a_study_is_told_where_it_is_run_from(
    studied: User, beside: User, tmp_path: Path
) -> None:
    (studied.folder / "incumbent.toml").rename(beside.folder / "incumbent.toml")
    for path in (beside.folder, studied.folder, tmp_path):
        mark = {MARK_VARIABLE: f"{studied.home.id}/cpu-0"}
        with subprocess.Popen(["sleep", "60"], env={**studied.variables, **mark}):
            said = replace(studied, folder=path).done("stop", "--study", "mar5")
        assert said == f"stopped; `incumbent run` in {beside.folder} carries on\n"


def test_the_last_words_of_a_run_say_where_it_is_run_from(
    studied: User,
    beside: User,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", studied.variables["INCUMBENT_HOME"])
    beside.write({"incumbent.toml": CONFIG})
    with opened(studied.home) as study:
        for path in (beside.folder, studied.folder):
            last_words(study, Left.ENDED, study.state(), None, path)
            assert f"`incumbent run` in {path} carries on" in capsys.readouterr().err


def test_init_writes_a_configuration_of_its_own(beside: User) -> None:
    beside.done("init")
    assert 'name = "idea"' in (beside.folder / "incumbent.toml").read_text()


def test_a_worktree_that_is_removed_takes_no_study_with_it(studied: User, beside: User) -> None:
    beside.done("submit", "--branch", "idea")
    studied.git("worktree", "remove", "--force", str(beside.folder))
    assert studied.done("submit", "--branch", "idea", "-m", "again").endswith("again\n")


def test_worktrees_of_a_bare_repository_share_a_study(studied: User, tmp_path: Path) -> None:
    bare = replace(studied, folder=tmp_path / "bare.git")
    studied.git("clone", "--quiet", "--bare", ".", str(bare.folder))
    one, other = (replace(studied, folder=tmp_path / name) for name in ("one", "other"))
    for each in (one, other):
        bare.git("worktree", "add", "--quiet", str(each.folder))
        each.write({"incumbent.toml": CONFIG.replace('"mar5"', '"april"')})
    one.done("submit", "--set", "LR=0.4")
    other.write({"train.py": TRAIN.replace("0.1", "0.05")})
    other.git("commit", "--quiet", "--all", "--message=A lower rate")
    other.done("submit", "--branch", "other")
    facts = json.loads(other.done("status", "--json"))
    assert facts["paths"]["repository"] == str(bare.folder)
    assert facts["queue"]["submitted"] == 2
