"""The user's repository: facts, and clear words where a study cannot start from it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.git.source_repository import Changes, Head, SourceProblem, SourceRepository
from trainer.git_command import GitTooOld
from trainer.trial import CommitId


def test_it_is_found_from_any_directory_inside(make_repository) -> None:
    repository = make_repository({"train.py": "x\n", "src/deep/a.py": "y\n"})
    source = SourceRepository.find(repository.path / "src" / "deep")
    assert source.toplevel == repository.path


@pytest.mark.parametrize(
    "name", ["with space", "Prüfung 研究", "a'b\"c$(d)", "-dash", " lead trail "]
)
def test_odd_paths_work(name: str, make_repository) -> None:
    repository = make_repository(name=name)
    source = SourceRepository.find(repository.path)
    assert source.toplevel == repository.path
    commit = source.head().commit
    assert source.read_text(commit, "train.py") == "LR = 1\nDEPTH = 2\n"
    assert source.changes() == Changes(tracked=0, untracked=0)


def test_the_head_is_a_commit_with_its_subject(make_repository) -> None:
    repository = make_repository()
    commit = repository.commit({"train.py": "y\n"}, "Größer: LR 1 -> 3\n\nBody")
    source = SourceRepository.find(repository.path)
    assert source.head() == Head(commit=CommitId(commit), subject="Größer: LR 1 -> 3")


def test_revisions_resolve_to_commits(make_repository) -> None:
    repository = make_repository()
    commit = repository.git("rev-parse", "HEAD")
    repository.git("tag", "-a", "v1", "-m", "Annotated")
    source = SourceRepository.find(repository.path)
    assert [source.resolve(rev) for rev in ("HEAD", "main", "v1", commit[:8])] == [commit] * 4
    for rev in ("nope", "--all", "HEAD:train.py", ""):
        with pytest.raises(SourceProblem, match="has no commit called"):
            source.resolve(rev)


def test_changes_are_counted_staged_or_not(make_repository) -> None:
    repository = make_repository({"a": "1\n", "b": "1\n", "c": "1\n", ".gitignore": "*.log\n"})
    repository.write({"a": "2\n", "b": "2\n", "new 1": "x", "dir/new 2": "x", "x.log": "ignored"})
    repository.git("add", "b")
    repository.git("mv", "c", "d")
    source = SourceRepository.find(repository.path)
    assert source.changes() == Changes(tracked=4, untracked=2)
    assert source.changes().is_dirty


def test_untracked_files_alone_do_not_make_it_dirty(make_repository) -> None:
    repository = make_repository()
    repository.write({"notes.txt": "x"})
    changes = SourceRepository.find(repository.path).changes()
    assert (changes.untracked, changes.is_dirty) == (1, False)


def test_ignore_rules_and_line_ends_of_the_user_count(make_repository, plain_git: Path) -> None:
    repository = make_repository({"train.py": "LR = 1\r\n"})
    with (plain_git / ".gitconfig").open("a") as config:
        config.write("[core]\n autocrlf = input\n excludesFile = ~/ignored\n")
    (plain_git / "ignored").write_text("*.swp\n")
    repository.write({"train.py.swp": "x"})
    assert SourceRepository.find(repository.path).changes().untracked == 0


def test_looking_changes_nothing_not_even_the_index(make_repository) -> None:
    repository = make_repository()
    repository.write({"train.py": "LR = 1\nDEPTH = 2\n", "untracked": "x"})  # new time, same text
    before = repository.fingerprint()
    source = SourceRepository.find(repository.path)
    assert source.changes() == Changes(tracked=0, untracked=1)
    source.read_text(source.head().commit, "train.py")
    assert repository.fingerprint() == before


@pytest.mark.parametrize("driver", ["evil", "e=vil.x y", "Größe"])
def test_no_hook_filter_or_monitor_runs(driver: str, make_repository, tmp_path: Path) -> None:
    repository = make_repository(
        {"train.py": "1\n", ".gitattributes": f"* filter={driver} diff={driver}\n"}
    )
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\ncat\n")
    program.chmod(0o755)
    for key in ("clean", "smudge", "process"):
        repository.git("config", f"filter.{driver}.{key}", str(program))
    for key in ("textconv", "command"):
        repository.git("config", f"diff.{driver}.{key}", str(program))
    repository.git("config", f"filter.{driver}.required", "true")
    repository.git("config", "core.fsmonitor", str(program))
    hook = repository.path / ".git" / "hooks" / "post-index-change"
    hook.write_bytes(program.read_bytes())
    hook.chmod(0o755)
    repository.write({"train.py": "2\n"})
    ran.unlink(missing_ok=True)
    source = SourceRepository.find(repository.path)
    assert source.changes().tracked == 1
    assert source.read_text(source.head().commit, "train.py") == "1\n"
    assert not ran.exists()


def test_a_dirty_submodule_is_not_entered(make_repository, tmp_path: Path) -> None:
    inner = make_repository(name="inner")
    outer = make_repository(name="outer")
    outer.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.path), "sub"
    )
    outer.git("commit", "--quiet", "-m", "Submodule")
    ran = tmp_path / "ran"
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    program.chmod(0o755)
    outer.git("-C", "sub", "config", "core.fsmonitor", str(program))
    (outer.path / "sub" / "train.py").write_text("dirty\n")
    assert SourceRepository.find(outer.path).changes() == Changes(tracked=0, untracked=0)
    assert not ran.exists()


def test_a_file_is_read_at_a_commit_and_not_from_the_checkout(make_repository) -> None:
    repository = make_repository({"a b/é.py": "old\r\n"})
    repository.write({"a b/é.py": "new\n"})
    source = SourceRepository.find(repository.path)
    commit = source.head().commit
    assert source.read_text(commit, "a b/é.py") == "old\r\n"
    with pytest.raises(KeyError, match="missing"):
        source.read_text(commit, "missing")
    with pytest.raises(LookupError, match="no such commit"):
        source.read_text(CommitId("1" * 40), "a b/é.py")


# What cannot be used, and the cure


def problem(path: Path) -> str:
    with pytest.raises(SourceProblem) as caught:
        SourceRepository.find(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert problem(tmp_path / "nowhere") == (
        f"{tmp_path / 'nowhere'} does not exist: give the directory of a git repository"
    )


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    assert "train.py is not a directory" in problem(tmp_path / "train.py")


def test_a_directory_outside_any_repository(tmp_path: Path) -> None:
    assert "is not in a git repository: run git init" in problem(tmp_path)


def test_a_repository_without_a_commit(make_repository) -> None:
    assert "has no commit yet" in problem(make_repository({}).path)


def test_a_bare_repository(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path)], check=True)
    assert "is a bare repository" in problem(tmp_path)


def test_the_inside_of_a_git_directory(make_repository) -> None:
    assert "is inside a .git directory" in problem(make_repository().path / ".git" / "refs")


def test_a_repository_with_sha256_names(make_repository) -> None:
    repository = make_repository(init=("--object-format=sha256",))
    assert "uses sha256 object names, which Incumbent does not support" in problem(repository.path)


def test_a_repository_of_another_user(
    make_repository, tmp_path: Path, plain_git: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = make_repository()
    # Only root may give a directory away, but git can be told to believe that somebody did.
    a_git(tmp_path, f'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "git config --global --add safe.directory" in problem(repository.path)
    with (plain_git / ".gitconfig").open("a") as config:
        config.write(f"[safe]\n directory = {repository.path}\n")
    assert SourceRepository.find(repository.path).head().subject == "Baseline"


def a_git(folder: Path, body: str) -> None:
    (folder / "git").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "git").chmod(0o755)


def test_an_old_git(make_repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_repository()
    a_git(tmp_path, "echo git version 2.30.2")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(GitTooOld, match=r"2\.30\.2 is too old"):
        SourceRepository.find(repository.path)
