"""Repositories that no study can be of: one line says what is wrong and what to do."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.infra.researchers import researcher, user
from tests.infra.user import CONFIG, FAILURE, PROGRAM, TRAIN, USAGE, User

__all__ = ["researcher", "user"]  # fixtures


@pytest.mark.parametrize("verb", ["init", "run"])
def test_a_folder_that_is_no_git_repository(user: User, verb: str) -> None:
    user.write({"train.py": TRAIN, "incumbent.toml": CONFIG})
    said = user.refused(USAGE, verb)
    assert "is not in a git repository: run git init" in said
    assert not user.has_study()


@pytest.mark.parametrize("verb", ["init", "run"])
def test_a_repository_without_a_commit(user: User, verb: str) -> None:
    user.write({"train.py": TRAIN, "incumbent.toml": CONFIG})
    user.git("init", "--quiet")
    assert "has no commit yet" in user.refused(USAGE, verb)
    assert not user.has_study()


def test_the_first_commit_that_is_advised_is_of_files_that_are_there(user: User) -> None:
    assert "git add YOUR-FILES && git commit" in user.refused(USAGE, "init")
    user.git("init", "--quiet")
    assert "git add YOUR-FILES && git commit" in user.refused(USAGE, "init")
    user.write({"train.py": TRAIN})
    assert "git add train.py && git commit" in user.refused(USAGE, "init")


def test_a_bare_repository(user: User) -> None:
    user.git("init", "--quiet", "--bare")
    assert "is a bare repository" in user.refused(USAGE, "run")


def test_a_path_that_does_not_exist(user: User) -> None:
    assert "nowhere does not exist" in user.refused(USAGE, "run", "nowhere")


def test_a_git_that_is_too_old(researcher: User, tmp_path: Path) -> None:
    real = shutil.which("git")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo git version 2.30.0;; '
        f'*) exec {real} "$@";; esac\n'
    )
    (folder / "git").chmod(0o755)
    path = f"{folder}{os.pathsep}{researcher.variables['PATH']}"
    for verb in ("init", "run"):
        said = researcher.refused(FAILURE, verb, PATH=path)
        assert "git 2.30.0 is too old" in said
        assert "2.38 or newer" in said
    assert not researcher.has_study()


def test_init_without_train_py_asks_what_it_cannot_find_out(user: User) -> None:
    user.commit({"README.md": "nothing here\n"})
    done = user.run(PROGRAM, "init")
    assert done.returncode == FAILURE
    assert "there is no train.py" in done.stdout
    assert "[trial] command" in done.stdout
    said = user.refused(USAGE, "run")  # with the questions unanswered
    assert "[trial] command" in said


def test_init_does_not_overwrite(researcher: User) -> None:
    said = researcher.refused(USAGE, "init")
    assert "exists already" in said
    assert "--force" in said
    assert (researcher.folder / "incumbent.toml").read_text() == CONFIG


@pytest.mark.parametrize(
    ("key", "line"),
    [("editable", 'editable = ["modle.py"]'), ("instructions", 'instructions = "modle.py"')],
)
def test_a_file_that_is_not_in_the_commit(researcher: User, key: str, line: str) -> None:
    text = CONFIG.replace("[metric]", f"{line}\n[metric]")
    researcher.write({"incumbent.toml": text})
    said = researcher.refused(USAGE, "run")
    assert "there is no modle.py in commit" in said
    assert f"[study] {key}" in said
    assert not researcher.has_study()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("link.py", "link.py is a symbolic link"),
        ("folder", "folder is a directory"),
        ("latin.py", "latin.py is not UTF-8 text"),
    ],
)
def test_an_editable_file_that_is_no_text_file(user: User, path: str, words: str) -> None:
    (user.folder / "folder").mkdir()
    user.write({"train.py": TRAIN, "folder/inside.py": TRAIN})
    (user.folder / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n# caf\xe9\n")
    (user.folder / "link.py").symlink_to("train.py")
    user.git("init", "--quiet")
    user.git("add", ".")
    user.git("commit", "--quiet", "--message=Baseline")
    user.write({"incumbent.toml": CONFIG.replace("[metric]", f'editable = ["{path}"]\n[metric]')})
    for verb in (["run"], ["submit", "--set", "LR=0.3"]):
        said = user.refused(USAGE, *verb)
        assert words in said
        assert "[study] editable" in said
    assert not user.has_study()


def test_a_base_that_is_no_commit(researcher: User) -> None:
    text = CONFIG.replace("[metric]", 'base = "v9"\n[metric]')
    researcher.write({"incumbent.toml": text})
    assert "no commit called 'v9'" in researcher.refused(USAGE, "run")


def test_a_path_with_blanks_and_letters_that_are_not_ascii(tmp_path: Path) -> None:
    user = User.at(tmp_path, folder="mein Ordner mit ünïcode")
    user.commit({"train.py": TRAIN, "incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    assert json.loads(user.done("status", "--json"))["paths"]["repository"] == str(user.folder)
    assert "there is no experiment e1" in user.refused(USAGE, "show", "e1")
