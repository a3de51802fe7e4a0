"""Runs git, hardened: the one place where a git process is started.

Knows how git is kept from running other people's programs, talking to a network, asking questions
or reading settings that change its output. Does not know what a study, a trial or a mirror is.

Why `subprocess` and not `git.cmd.Git.execute` of GitPython: that one always starts from the whole
of `os.environ` and can only add to it, so a GIT_DIR or GIT_INDEX_FILE of the caller (any git hook
sets them) would redirect our commands into another repository; and where the directory is missing
it silently runs in the current one. GitPython writes objects, in `cluster.git.git_objects`.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_HARDENING = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "core.quotePath": "false",
    "advice.detachedHead": "false",
    "submodule.recurse": "false",
}
"""Command-scope settings, which outrank the configuration files of any repository."""

_NEUTRAL = {"core.attributesFile": "/dev/null", "core.excludesFile": "/dev/null"}
"""These have defaults below $HOME that are read even where the global configuration is not."""

_FIXED_VARIABLES = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    # Rather than protocol.allow: git does not hand command-scope settings on to the processes it
    # starts in other repositories, and a partial clone there would fetch what it lacks, by a
    # program that its configuration names.
    "GIT_ALLOW_PROTOCOL": "none",
    # A checkout asks git who it is, and git a name server for the name of this machine: where none
    # answers, that takes ten seconds each time.
    "GIT_COMMITTER_NAME": "Incumbent",
    "GIT_COMMITTER_EMAIL": "incumbent@localhost",
}
FROM_THIS_MACHINE = {"GIT_ALLOW_PROTOCOL": "file"}
"""Variables for the one command that fetches, and does so from a path."""
_KEPT_VARIABLES = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "LD_LIBRARY_PATH", "GIT_EXEC_PATH")
_USER_CONFIG_VARIABLES = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
_MOST_MESSAGE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class GitResult:
    """What a git process left: `status` is its exit code (negative: a signal)."""

    status: int
    stdout: bytes
    stderr: str


class GitError(RuntimeError):
    """A git process failed; the message is one short line."""

    def __init__(self, command: tuple[str, ...], status: int, stderr: str) -> None:
        self.command = command
        """The arguments after `git`."""
        self.status = status
        self.stderr = stderr
        super().__init__(f"git {command[0] if command else ''}: {_gist(stderr, status)}")

    def __reduce__(self) -> tuple[type["GitError"], tuple[tuple[str, ...], int, str]]:
        return type(self), (self.command, self.status, self.stderr)


class GitTooOld(RuntimeError):
    """There is no git, or none that is new enough; the message holds the cure."""

    def __init__(self, found: str, minimum: tuple[int, ...]) -> None:
        self.found = found
        """Version on this machine, e.g. "2.30.2"; empty where there is no git."""
        self.minimum = minimum
        wanted = ".".join(map(str, minimum))
        have = f"git {found} is too old" if found else "git is not installed"
        super().__init__(
            f"{have}: Incumbent needs git {wanted} or newer. Install it with your package manager "
            "(apt install git, conda install git, brew install git) and put it first on PATH"
        )

    def __reduce__(self) -> tuple[type["GitTooOld"], tuple[str, tuple[int, ...]]]:
        return type(self), (self.found, self.minimum)


class GitCommand:
    """git in one directory: a bare repository, or a checkout.

    Every call has hooks, file-system monitors, network protocols, background maintenance and
    prompts switched off, English messages, and an allow-listed environment: neither the caller's
    GIT_* variables nor its secrets.

    With `user_config=False` (repositories of our own) the user's global and system configuration
    and attributes are not read: an autocrlf, a diff prefix or a merge driver there would change
    trees and output from one machine to the next, and a filter defined there (git-lfs) would run
    on files that a candidate chose. Files under git-lfs are therefore checked out as pointers.

    With `user_config=True` (the user's repository) they are read: ignore rules, line endings and
    `safe.directory` have to mean what they mean to the user. A repository of another owner is
    refused by git itself unless `safe.directory` names it; `GitError.stderr` then says so.

    `settings` are further configuration keys with their values, for every call.

    Holds no resources; may be used from several threads.
    """

    def __init__(
        self,
        directory: Path,
        *,
        user_config: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._environment = _environment(user_config=user_config, settings=settings or {})

    def run(
        self,
        *args: str,
        stdin: bytes | IO[bytes] = b"",
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdout: IO[bytes] | None = None,
        timeout_s: float | None = None,
    ) -> GitResult:
        """Run `git *args` and wait for it, for `timeout_s` seconds at most: then it is ended.

        `env` adds variables to the hardened environment. What may not fit into memory is read from
        a file and written to one: then the result's `stdout` is empty. Raises GitError if git
        cannot be started (status 127), takes too long (-9) or, with `check`, if it fails.
        """
        environment = {**self._environment, **env} if env else self._environment
        try:
            done = subprocess.run(
                ("git", *args),
                cwd=self.directory,
                env=environment,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                input=stdin if isinstance(stdin, bytes) else None,
                stdin=None if isinstance(stdin, bytes) else stdin,
                check=False,
                timeout=timeout_s,
            )
        except OSError as error:
            raise GitError(args, 127, f"{error.strerror}: {error.filename or 'git'}") from error
        except subprocess.TimeoutExpired as error:
            raise GitError(args, -9, f"was ended after {timeout_s:g} s") from error
        stderr = done.stderr.decode("utf-8", "replace")
        if check and done.returncode != 0:
            raise GitError(args, done.returncode, stderr)
        return GitResult(status=done.returncode, stdout=done.stdout or b"", stderr=stderr)

    def text(self, *args: str) -> str:
        """Return what `git *args` prints, stripped; bytes that are not UTF-8 become surrogates."""
        return self.run(*args).stdout.decode("utf-8", "surrogateescape").strip()


def require_git(minimum: tuple[int, ...] = (2, 38)) -> str:
    """Return the version of git on PATH, e.g. "2.39.5"; raise GitTooOld if it is below `minimum`.

    2.38 brought `git merge-tree --write-tree`, which merges without a checkout.
    """
    try:
        answer = GitCommand(Path("/")).text("--version")
    except GitError as error:
        raise GitTooOld("", minimum) from error
    found = re.search(r"\d+(?:\.\d+)+", answer)
    version = found[0] if found else ""
    if tuple(int(part) for part in version.split(".") if part) < minimum:
        raise GitTooOld(version or answer, minimum)
    return version


def _environment(*, user_config: bool, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a git process is started with."""
    inherited = _KEPT_VARIABLES + (_USER_CONFIG_VARIABLES if user_config else ())
    kept = {name: os.environ[name] for name in inherited if name in os.environ}
    kept |= _FIXED_VARIABLES
    if not user_config:
        kept |= {
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
        }
    settings = {**({} if user_config else _NEUTRAL), **settings, **_HARDENING}
    # As variables rather than `-c` arguments: the same scope and rank, but a key may hold a "=".
    kept["GIT_CONFIG_COUNT"] = str(len(settings))
    for index, (name, value) in enumerate(settings.items()):
        kept[f"GIT_CONFIG_KEY_{index}"] = name
        kept[f"GIT_CONFIG_VALUE_{index}"] = value
    return kept


def _gist(stderr: str, status: int) -> str:
    """Return the line of `stderr` that says what went wrong, shortened."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        label, _, rest = line.partition(": ")
        if label in {"fatal", "error"}:
            return rest[:_MOST_MESSAGE]
    return lines[-1][:_MOST_MESSAGE] if lines else f"exit code {status}"
