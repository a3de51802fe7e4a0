"""git's plumbing for a study's bare repository: fetch, compare, apply and merge without a checkout.

Knows git's commands and what their answers mean. Does not know studies, experiments or branches:
`cluster.git.study_repository` does.
"""

import os
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.git.git_objects import Snapshot, read_snapshot
from cluster.git.room import is_lack_of_room
from cluster.git.source_repository import SourceProblem, SourceRepository
from trainer.git_command import FROM_THIS_MACHINE, GitCommand, GitError
from trainer.trial import CommitId

_SNAPSHOTS = 16
_REFUSED = re.compile(
    r"^error: .*(?:patch|in index)|^Applied patch to '.+' with conflicts", re.MULTILINE
)
"""What git says of a patch, and of nothing else that may go wrong."""
_FAILED = re.compile(r"^error: patch failed: (.+)$", re.MULTILINE)
_CONFLICT = re.compile(r"^Applied patch to '(.+)' with conflicts", re.MULTILINE)
_STALE_LOCK_S = 10.0
"""A lock that old outlived its process: a ref is locked for milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How two trees differ."""

    paths: tuple[str, ...]
    problem: str
    """What is wrong with the first path that may not differ so; empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tree that git made of two others, or where it could not."""

    tree: str
    """Empty if it could not."""
    conflicts: tuple[str, ...] = ()
    """Paths, of a patch with the line (`train.py:12`), as far as git names them."""


class BareRepository:
    """A bare repository at `path`."""

    def __init__(self, path: Path) -> None:
        self.git = GitCommand(path)
        self._path = path
        self._snapshots: OrderedDict[tuple[str, tuple[str, ...]], Snapshot] = OrderedDict()

    def initialise(self, branch: str) -> None:
        """Make the repository, with HEAD on `branch`; may be repeated."""
        self._path.mkdir(parents=True, exist_ok=True)
        # Newer versions of git may default to other formats than those written here in process.
        formats = {"GIT_DEFAULT_HASH": "sha1", "GIT_DEFAULT_REF_FORMAT": "files"}
        self.git.run(
            *("init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}", "."),
            env=formats,
        )

    def read_ref(self, rev: str) -> CommitId | None:
        """Return the commit that `rev` names, or None."""
        found = self.git.run(
            *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"),
            check=False,
        )
        return CommitId(found.stdout.decode().strip()) if found.status == 0 else None

    def snapshot(self, treeish: str, paths: Sequence[str]) -> Snapshot:
        """Return what is at `paths` in a commit or tree given by its id.

        The last few are kept: what an id names never changes. Raises LookupError.
        """
        key = (treeish, tuple(paths))
        if key not in self._snapshots:
            self._snapshots[key] = read_snapshot(self.git, treeish, paths)
            if len(self._snapshots) > _SNAPSHOTS:
                self._snapshots.popitem(last=False)
        self._snapshots.move_to_end(key)
        return self._snapshots[key]

    def changes(self, old: str, new: str, editable: Sequence[str]) -> Changes:
        """Compare two commits or trees; only editable files may differ, and must stay files."""
        output = self.git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", old, new).stdout
        fields = output.split(b"\0")[:-1]
        paths, problems = [], []
        for about, name in zip(fields[::2], fields[1::2], strict=True):
            mode, status = about.split(b" ")[1], about[-1:]
            path = name.decode("utf-8", "backslashreplace")
            paths.append(path)
            if path not in editable:
                problems.append(f"{path} is not editable")
            elif status == b"D":
                problems.append(f"{path} must not be deleted")
            elif mode not in {b"100644", b"100755"}:
                problems.append(f"{path} must stay a regular file")
        return Changes(paths=tuple(paths), problem=problems[0] if problems else "")

    def apply(self, base: CommitId, patch: str) -> Made:
        """Apply a patch to `base`, three-way where it can be.

        One that is in there already makes the tree of `base`. Raises GitError where git fails for
        another reason than the patch.
        """
        stdin = patch.encode("utf-8", "surrogateescape")
        with tempfile.TemporaryDirectory(prefix="incumbent-index-") as scratch:
            env = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self.git.run("read-tree", base, env=env)
            words = ("apply", "--cached", "--whitespace=nowarn")
            applied = self.git.run(*words, "--3way", "-", stdin=stdin, env=env, check=False)
            if applied.status == 0:
                return Made(tree=self.git.run("write-tree", env=env).stdout.decode().strip())
            failure = GitError(words, applied.status, applied.stderr)
            if is_lack_of_room(failure) or not _REFUSED.search(applied.stderr):
                raise failure
            self.git.run("read-tree", base, env=env)  # a merge that failed leaves its half
            back = (*words, "--check", "--reverse", "-")
            if self.git.run(*back, stdin=stdin, env=env, check=False).status == 0:
                return Made(tree=self.git.run("write-tree", env=env).stdout.decode().strip())
        places = _FAILED.findall(applied.stderr) or _CONFLICT.findall(applied.stderr)
        return Made(tree="", conflicts=tuple(places))

    def merge_trees(self, ours: CommitId, theirs: CommitId) -> Made:
        """Merge two commits three-way."""
        done = self.git.run(
            *("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs),
            check=False,
        )
        if done.status not in {0, 1}:
            raise GitError(("merge-tree", ours, theirs), done.status, done.stderr)
        tree, *rest = done.stdout.split(b"\0")
        if done.status == 0:
            return Made(tree=tree.decode("ascii"))
        names = {path.decode("utf-8", "backslashreplace") for path in rest if path}
        return Made(tree="", conflicts=tuple(sorted(names)))

    def fetch(self, origin: SourceRepository, commit: CommitId) -> None:
        """Bring a commit over with its history, unless it is here already; origin stays as it is.

        Raises SourceProblem, GitError.
        """
        ref = f"refs/source/{commit}"
        if self.read_ref(ref) is not None:
            return
        # With the user's configuration: git looks there whether the source may be trusted.
        git = GitCommand(self._path, user_config=True, settings={"protocol.version": "2"})
        try:
            git.run(
                *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow"),
                *("--no-auto-maintenance", "--no-recurse-submodules"),
                str(origin.toplevel),
                f"+{commit}:{ref}",
                env=FROM_THIS_MACHINE,
            )
        except GitError as error:
            if "promisor" not in error.stderr:
                raise
            raise SourceProblem(
                f"{origin.toplevel} is a partial clone that lacks some of its history. "
                "Complete it: git fetch --refetch --no-filter"
            ) from error

    def drop_stale_locks(self) -> None:
        """Remove locks that a power cut left behind: they would block their refs for ever."""
        # Git's own, by name: workers keep a lock of theirs beside them, whose age says nothing.
        locks = [self._path / f"{name}.lock" for name in ("config", "HEAD", "index", "packed-refs")]
        # os.walk and not rglob: git removes empty folders at any time, which rglob trips over.
        for folder, _, names in os.walk(self._path / "refs"):
            locks += [Path(folder, name) for name in names if name.endswith(".lock")]
        for lock in locks:
            with suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > _STALE_LOCK_S:
                    lock.unlink()
