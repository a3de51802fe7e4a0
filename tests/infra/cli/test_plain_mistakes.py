"""Folders that cannot be, and terminals that lack characters: one line, and no traceback."""

import errno
import json
import os
import subprocess
import sys

import pytest

from infra.cli.problems import explain
from infra.local.home import StudyProblem, state_directory
from infra.local.node_home import NodeHome
from tests.infra.researchers import researcher, studied, user
from tests.infra.user import FAILURE, USAGE, User

__all__ = ["researcher", "studied", "user"]  # fixtures

MAIN = "from infra.cli.main import main; main()"


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/below", "/proc/no-such"])
def test_studies_are_to_be_kept_where_no_folder_can_be(researcher: User, home: str) -> None:
    for command in (["run", "-d", "--sandbox", "none"], ["submit", "--set", "LR=0.3"]):
        said = researcher.refused(FAILURE, *command, INCUMBENT_HOME=home)
        assert said.startswith(f"error: {home}")
        assert "cannot be made: " in said
        assert "Have INCUMBENT_HOME, or else HOME, name a folder" in said


@pytest.mark.parametrize("home", ["/dev/null", "/proc/no-such"])
def test_a_node_is_to_keep_its_files_where_no_folder_can_be(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", home)
    node = NodeHome.locate("127.0.0.1:1")
    assert (node.status(), node.last_status()) == (None, None)
    with pytest.raises(StudyProblem, match=f"{home}/.* cannot be made: "):
        node.create()


def test_studies_are_to_be_kept_in_a_home_of_nobody(
    researcher: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = researcher.refused(FAILURE, "status", INCUMBENT_HOME="~no-one/x")
    assert said == "error: INCUMBENT_HOME = ~no-one/x: there is no such home folder\n"
    monkeypatch.setenv("INCUMBENT_HOME", "~no-one/x")
    with pytest.raises(StudyProblem):
        state_directory()


def test_a_demo_where_no_folder_can_be(researcher: User) -> None:
    said = researcher.refused(USAGE, "demo", "/dev/null/x")
    assert said == "error: /dev/null/x cannot be made: Not a directory\n"


@pytest.mark.parametrize("command", [["status"], ["log"], ["demo", "x"], ["run"]])
def test_a_folder_that_was_removed_meanwhile(researcher: User, command: list[str]) -> None:
    gone = researcher.folder.parent / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", sys.executable, "-P", "-c", MAIN, *command],
        cwd=gone,
        env=researcher.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == USAGE
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    if command != ["run"]:  # of which git says it
        assert done.stderr == "error: the folder that you are in was removed: go to another\n"


@pytest.mark.parametrize("command", ["import-ledger", "export-ledger", "submit", "run", "final"])
def test_a_name_that_is_too_long_for_a_file(studied: User, command: str) -> None:
    said = studied.refused(USAGE, command, "x" * 300)
    assert said.count("\n") == 1


def test_a_disk_that_is_for_reading_alone() -> None:
    error = OSError(errno.EROFS, os.strerror(errno.EROFS), "/backup/.x.1")
    words = "/backup/.x.1: nothing can be written to that file system"
    assert explain(error) == (words, FAILURE)


def test_a_folder_in_the_place_of_a_file(studied: User) -> None:
    (studied.folder / "a.jsonl.bundle").mkdir()
    said = studied.refused(USAGE, "export-ledger", "a.jsonl", "--force")
    assert said == f"error: {studied.folder / 'a.jsonl.bundle'} is a folder\n"
    (studied.folder / "incumbent.toml").unlink()
    (studied.folder / "incumbent.toml").mkdir()
    said = studied.refused(USAGE, "init", "--force")
    assert said == f"error: {studied.folder / 'incumbent.toml'} is a folder\n"


def test_a_file_of_ours_that_is_missing_is_no_mistake_of_the_users() -> None:
    assert explain(FileNotFoundError(2, "No such file or directory", "x")) is None
    assert explain(FileNotFoundError("x")) is None


def test_what_a_terminal_lacks_is_a_question_mark_and_json_says_it_all(studied: User) -> None:
    text = "1 - better ±1 → 😀"
    studied.home.scratchpad.write_text(text, "utf-8")

    def shown(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *command],
            cwd=studied.folder,
            env={**studied.variables, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("ascii")

    assert "1 - better ?1 ? ?" in shown("scratchpad")
    assert json.loads(shown("scratchpad", "--json"))["text"].strip() == text


def test_a_study_whose_repository_is_gone(studied: User) -> None:
    studied.home.git.rename(studied.home.git.with_name("gone.git"))
    for command in (["submit", "--set", "LR=0.4"], ["run"], ["export-ledger", "a.gz"]):
        said = studied.refused(FAILURE, *command)
        assert f"{studied.home.git} is gone" in said
        assert "`incumbent rebuild`" in said
