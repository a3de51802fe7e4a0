"""The user's repository, looked at and never changed.

Knows how to find it from a path, what is checked out and whether there are changes beside it. Does
not know studies. Every reason for which a study cannot start from it is a `SourceProblem` that
holds the cure.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cluster.git.git_objects import read_snapshot
from trainer.git_command import GitCommand, GitError, require_git
from trainer.trial import CommitId


class SourceProblem(RuntimeError):
    """The repository cannot serve as the source of a study; the message holds the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is checked out."""

    commit: CommitId
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is in the checkout but in no commit: a study does not see it."""

    tracked: int
    """Tracked files that differ from the commit, staged or not."""
    untracked: int
    """Untracked files and folders, ignored ones aside."""

    @property
    def is_dirty(self) -> bool:
        """Say whether tracked files differ from the commit."""
        return self.tracked > 0


class SourceRepository:
    """A checkout of the user's, found by `SourceRepository.find`."""

    def __init__(self, toplevel: Path) -> None:
        self.toplevel = toplevel
        """The checkout's root."""
        self.git = GitCommand(toplevel, user_config=True)

    @classmethod
    def find(cls, path: Path) -> Self:
        """Return the repository that holds `path`.

        Raises SourceProblem if there is none that a study can start from, GitTooOld.
        """
        require_git()
        git = GitCommand(_folder(path), user_config=True)
        try:
            facts = git.text(
                "rev-parse", "--is-bare-repository", "--is-inside-git-dir", "--show-object-format"
            )
            bare, inside, object_format = facts.splitlines()
            _check(path, bare=bare == "true", inside=inside == "true", object_format=object_format)
            top = git.run("rev-parse", "--show-toplevel").stdout.removesuffix(b"\n")
        except GitError as error:
            raise _explain(path, error) from error
        source = cls(Path(os.fsdecode(top)))
        if git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False).status != 0:
            raise SourceProblem(
                f"{source.toplevel} has no commit yet: a study starts from one. "
                f"Run: {_first_commit(source.toplevel)}"
            )
        return source

    @classmethod
    def origin(cls, path: Path) -> Self:
        """Return the repository at `path` as one that commits come from: it may have no checkout.

        Raises SourceProblem if there is none, GitTooOld.
        """
        require_git()
        source = cls(_folder(path))
        try:
            source.git.run("rev-parse", "--git-dir")
        except GitError as error:
            raise _explain(path, error) from error
        return source

    def head(self) -> Head:
        """Return the commit that is checked out."""
        shown = self.git.run(
            "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%H %s", "HEAD"
        )
        commit, _, subject = shown.stdout.decode("utf-8", "replace").strip().partition(" ")
        return Head(commit=CommitId(commit), subject=subject)

    def resolve(self, rev: str) -> CommitId:
        """Return the commit that a branch, tag or abbreviation names.

        Raises SourceProblem if there is none.
        """
        found = self.git.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", check=False
        )
        if found.status != 0:
            raise SourceProblem(
                f"{self.toplevel} has no commit called {rev!r}: name a branch, a tag or a commit"
            )
        return CommitId(found.stdout.decode().strip())

    def has_ref(self, ref: str) -> bool:
        """Say whether there is a ref of this full name."""
        found = self.git.run("rev-parse", "--verify", "--quiet", ref, check=False)
        return found.status == 0

    def changes(self) -> Changes:
        """Count what the checkout holds beside its commit, without writing to the index.

        Filters (git-lfs, say) are not run, so a filtered file whose time stamp moved counts as
        changed. Submodules count by their commit alone.
        """
        git = GitCommand(self.toplevel, user_config=True, settings=self._without_filters())
        status = git.run(
            "status",
            "--porcelain",
            "-z",
            "--no-renames",
            "--ignore-submodules=dirty",
            "--untracked-files=normal",
        )
        lines = [line for line in status.stdout.split(b"\0") if line]
        untracked = sum(line.startswith(b"??") for line in lines)
        return Changes(tracked=len(lines) - untracked, untracked=untracked)

    def read_text(self, commit: CommitId, path: str) -> str:
        """Return a file at `commit`, relative to the root, line ends as they are.

        Raises KeyError if there is none, ValueError if it is not text, LookupError without commit.
        """
        return read_snapshot(self.git, commit, [path]).text(path)

    def _without_filters(self) -> dict[str, str]:
        # `git status` hands files to the clean filters of the configuration: other people's
        # programs, which a copied repository may bring along in its .git/config.
        listed = self.git.run(
            "config", "--null", "--name-only", "--get-regexp", r"^filter\.", check=False
        )
        keys = (os.fsdecode(key) for key in listed.stdout.split(b"\0") if key)
        drivers = {key.rpartition(".")[0] for key in keys}
        off = {"clean": "", "process": "", "required": "false"}
        return {f"{driver}.{key}": value for driver in drivers for key, value in off.items()}


def _folder(path: Path) -> Path:
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise SourceProblem(f"{path} {what}: give the directory of a git repository")
    return path


def _check(path: Path, *, bare: bool, inside: bool, object_format: str) -> None:
    if bare:
        raise SourceProblem(
            f"{path} is a bare repository, without files to look at: clone it "
            "(git clone PATH work) and give the clone"
        )
    if inside:
        raise SourceProblem(f"{path} is inside a .git directory: give the checkout itself")
    if object_format != "sha1":
        raise SourceProblem(
            f"{path} uses {object_format} object names, which Incumbent does not support: copy "
            "the files to a new repository (git init --object-format=sha1) and give that one"
        )


def _first_commit(folder: Path) -> str:
    files = "train.py" if (folder / "train.py").is_file() else "YOUR-FILES"
    return f"git add {files} && git commit -m 'Baseline'"


def _explain(path: Path, error: GitError) -> SourceProblem:
    if "not a git repository" in error.stderr:
        return SourceProblem(
            f"{path} is not in a git repository: run git init, then {_first_commit(path)}"
        )
    if "dubious ownership" in error.stderr:
        return SourceProblem(
            f"{path} belongs to another user, so git does not trust it. If you do: "
            f"git config --global --add safe.directory '{path}'"
        )
    return SourceProblem(f"{path} cannot be read: {error}")
