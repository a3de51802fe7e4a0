"""Every test runs real git."""

import copy
import os
import stat
import subprocess
from pathlib import Path

import pytest

from trainer.git_command import FROM_THIS_MACHINE, GitCommand, GitError, GitTooOld, require_git


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(path / ".config"))
    return path


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    path = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", str(path)], check=True)
    return path


def a_program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def commit_a_file(repository: Path) -> str:
    (repository / "a").write_text("1\n")
    git = GitCommand(repository)
    git.run("add", "a")
    git.run("-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "One")
    return git.text("rev-parse", "HEAD")


def test_output_is_bytes_as_git_wrote_them_and_text_is_stripped(repository: Path) -> None:
    git = GitCommand(repository)
    oid = git.run("hash-object", "-w", "--stdin", stdin=b" \xff\0\r\n").stdout.decode().strip()
    assert git.run("cat-file", "blob", oid).stdout == b" \xff\0\r\n"
    assert git.text("cat-file", "blob", oid) == "\udcff\0"


def test_a_large_standard_input_arrives_whole(repository: Path) -> None:
    git = GitCommand(repository)
    content = os.urandom(3_000_000)
    oid = git.run("hash-object", "-w", "--stdin", stdin=content).stdout.decode().strip()
    assert git.run("cat-file", "blob", oid).stdout == content


def test_a_failure_says_in_one_short_line_what_git_said(repository: Path) -> None:
    with pytest.raises(GitError) as caught:
        GitCommand(repository).run("checkout", "no-such-branch\n" + "x" * 200)
    assert caught.value.command[0] == "checkout"
    assert caught.value.status == 1
    message = str(caught.value)
    assert message.startswith("git checkout: pathspec 'no-such-branch")
    assert "\n" not in message
    assert len(message) < 400


def test_a_failure_that_says_nothing_still_has_its_exit_code(repository: Path) -> None:
    with pytest.raises(GitError, match="git rev-parse: exit code 1"):
        GitCommand(repository).run("rev-parse", "--verify", "--quiet", "nothing")


def test_without_check_a_failure_is_a_result(repository: Path) -> None:
    result = GitCommand(repository).run("rev-parse", "--verify", "nothing", check=False)
    assert result.status == 128
    assert "fatal" in result.stderr


def test_errors_can_be_rebuilt_as_pickling_does_between_processes() -> None:
    error = copy.copy(GitError(("status",), 128, "fatal: broken"))
    assert (str(error), error.command, error.status) == ("git status: broken", ("status",), 128)
    too_old = copy.copy(GitTooOld("2.30", (2, 38)))
    assert too_old.found == "2.30"


def test_a_missing_directory_is_an_error_and_never_the_current_one(tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"No such file or directory: .*gone") as caught:
        GitCommand(tmp_path / "gone").run("status")
    assert caught.value.status == 127


@pytest.mark.parametrize(
    "variable",
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"],
)
def test_the_callers_git_variables_do_not_redirect_a_command(
    variable: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    commit_a_file(repository)
    assert GitCommand(repository).text("status", "--porcelain") == ""
    assert not (tmp_path / "elsewhere").exists()


def test_secrets_of_the_caller_do_not_reach_git(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-123")
    environment = GitCommand(repository).text("-c", "alias.show-env=!env", "show-env")
    assert "PATH=" in environment
    assert "sk-123" not in environment


@pytest.mark.parametrize("user_config", [False, True])
def test_git_need_not_ask_anybody_who_it_is(repository: Path, user_config: bool) -> None:
    git = GitCommand(repository, user_config=user_config)
    wanted = ("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    assert git.text(*wanted).startswith("Incumbent <incumbent@localhost> ")


def test_hooks_do_not_run(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for hook in ("pre-commit", "post-commit", "post-checkout", "reference-transaction"):
        a_program(repository / ".git" / "hooks" / hook, f"touch '{ran}'")
    commit_a_file(repository)
    GitCommand(repository).run("checkout", "--detach")
    assert not ran.exists()


def test_a_file_system_monitor_of_the_repository_does_not_run(
    repository: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    program = a_program(tmp_path / "monitor", f"touch '{ran}'")
    commit_a_file(repository)
    subprocess.run(["git", "config", "core.fsmonitor", str(program)], cwd=repository, check=True)
    GitCommand(repository).run("status")
    assert not ran.exists()
    subprocess.run(["git", "status"], cwd=repository, check=True, capture_output=True)
    assert ran.exists(), "plain git would have run it"


def test_filters_and_line_ends_of_the_users_configuration_do_not_apply(
    repository: Path, home: Path
) -> None:
    (repository / ".gitattributes").write_text("a filter=shout\n")
    commit = commit_a_file(repository)
    (home / ".gitconfig").write_text(
        '[core]\n autocrlf = true\n[filter "shout"]\n smudge = tr 1 X\n clean = tr 1 Y\n'
    )
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "attributes").write_text("* text eol=crlf\n")
    (repository / "a").unlink()
    GitCommand(repository).run("checkout", commit, "--", "a")
    assert (repository / "a").read_bytes() == b"1\n"
    (repository / "a").unlink()
    GitCommand(repository, user_config=True).run("checkout", commit, "--", "a")
    assert (repository / "a").read_bytes() == b"X\r\n"


@pytest.mark.parametrize("url", ["https://localhost:1/x", "ssh://localhost:1/x", "ext::touch ran"])
def test_only_local_repositories_can_be_fetched_from(url: str, repository: Path) -> None:
    for env in ({}, FROM_THIS_MACHINE):
        with pytest.raises(GitError, match=r"transport .* not allowed"):
            GitCommand(repository).run("fetch", url, env=env)
    assert not (repository / "ran").exists()


def test_nothing_is_fetched_unless_that_is_meant(repository: Path, tmp_path: Path) -> None:
    commit_a_file(repository)
    other = tmp_path / "other"
    subprocess.run(["git", "init", "--quiet", str(other)], check=True)
    with pytest.raises(GitError, match=r"transport 'file' not allowed"):
        GitCommand(other).run("fetch", "--quiet", str(repository))
    GitCommand(other).run("fetch", "--quiet", str(repository), env=FROM_THIS_MACHINE)


PLANTED = """
[core]
    fsmonitor = {ran}
    hooksPath = {hooks}
    editor = {ran}
    pager = {ran}
    sshCommand = {ran}
    alternateRefsCommand = {ran}
[diff]
    external = {ran}
[log]
    showSignature = true
[gpg]
    program = {ran}
[protocol]
    allow = always
[protocol "ext"]
    allow = always
"""


def test_nothing_that_a_planted_configuration_names_runs(repository: Path, tmp_path: Path) -> None:
    """The keys that name programs, as a candidate could leave them in a `.git` of its own."""
    commit = commit_a_file(repository)
    (repository / "a").write_text("2\n")
    ran = tmp_path / "ran"
    program = a_program(tmp_path / "evil", f"echo $0 $@ >> '{ran}'")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        a_program(hooks / hook, f"echo $0 >> '{ran}'")
    with (repository / ".git" / "config").open("a") as file:
        file.write(PLANTED.format(ran=program, hooks=hooks))
    git = GitCommand(repository)
    git.run("status", "--porcelain")
    git.run("ls-tree", "-r", "-l", "-z", commit)
    git.run("diff-tree", "-r", "--raw", "-p", "--no-ext-diff", "--no-textconv", commit)
    git.run("log", "-1", "--no-show-signature")
    git.run("checkout", "--force", "--detach", "--quiet", commit)
    git.run("update-ref", "refs/heads/other", commit)
    git.run("fetch", f"ext::{program}", check=False)
    assert not ran.exists(), ran.read_text()
    subprocess.run(["git", "status"], cwd=repository, check=True, capture_output=True)
    assert ran.exists(), "plain git would have run them"


def test_settings_hold_for_keys_with_an_equals_sign(repository: Path) -> None:
    git = GitCommand(repository, settings={"filter.a=b.clean": "c"})
    assert git.text("config", "filter.a=b.clean") == "c"


def test_settings_cannot_soften_the_hardening(repository: Path) -> None:
    git = GitCommand(repository, settings={"core.hooksPath": "hooks"})
    assert git.text("config", "core.hooksPath") == "/dev/null"


def test_git_of_this_machine_is_new_enough() -> None:
    assert require_git()[0].isdigit()


def test_an_old_git_is_named_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path / "git", "echo git version 2.30.2")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(GitTooOld, match=r"git 2\.30\.2 is too old.*2\.38 or newer.*apt install"):
        require_git()


def test_a_git_with_a_vendors_suffix_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(tmp_path / "git", "echo 'git version 2.39.5 (Apple Git-154)'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert require_git() == "2.39.5"


def test_a_machine_without_git_is_told_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitTooOld, match="git is not installed") as caught:
        require_git()
    assert caught.value.found == ""
