"""A node's own bare repository: what has come over from the head, and what of it is kept.

Knows git's plumbing for taking in packs. Does not know where they come from. Every commit that was
fetched has a ref of its own, a file whose time says when the commit was last wanted:

    refs/node/<commit>

So git keeps what the node may need, and no more: of many commits those that were not wanted for
the longest go, with whatever belongs to them alone.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.git.bare_repository import BareRepository
from trainer.trial import CommitId
from trainer.worktree import locked

MOST_KEPT = 512
"""Commits, above which the older half goes."""
MOST_NAMED = 16
"""Commits that the head is told of as there: what is new is nearly always made from one of them."""
_LOOSE = 100
"""A pack of fewer objects is unpacked: thousands of small packs would make git slow."""
_HEADER_BYTES = 12
"""Of a pack: `PACK`, its version, and how many objects it holds."""
_OLD_SINS = (
    "badDate", "badDateOverflow", "badEmail", "badName", "badTimezone", "duplicateEntries",
    "missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeDate", "missingSpaceBeforeEmail",
    "multipleAuthors", "treeNotSorted", "zeroPaddedDate", "zeroPaddedFilemode",
)  # fmt: skip
"""What git finds amiss in the history of many an old repository, and what harms nobody."""
_STRICT = "--strict=" + ",".join(f"{sin}=ignore" for sin in _OLD_SINS)
"""All objects are looked at as they come in (`fsck`), and that none of them is missing."""


class NodeRepository:
    """The bare repository at `path`; used by all slots of the node, in several processes."""

    def __init__(self, path: Path, *, pinned: CommitId, most_kept: int = MOST_KEPT) -> None:
        """`pinned` is kept whatever happens: the study's base."""
        self.path = path
        self._pinned = pinned
        self._most_kept = most_kept
        self._bare = BareRepository(path)
        self._refs = path / "refs" / "node"

    def has(self, commit: CommitId) -> bool:
        """Say whether a commit is here, and take note that it is wanted. Starts no process."""
        ref = self._refs / commit
        try:
            is_here = ref.read_text("ascii").strip() == commit
            os.utime(ref)
        except (OSError, UnicodeDecodeError):
            return False
        return is_here

    def has_base(self) -> bool:
        """Say whether the study's base is here, on which nearly everything rests."""
        return self.has(self._pinned)

    @contextmanager
    def incoming(self, commit: CommitId) -> Iterator[Path]:
        """Keep the other slots of the node from fetching the same; yield where its pack may go."""
        self.path.mkdir(parents=True, exist_ok=True)
        pack = self.path / f"{commit}.incoming"
        while True:
            with pack.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not os.fstat(file.fileno()).st_nlink:
                    continue  # whoever had it is done, and has taken the file away
                try:
                    yield pack
                finally:
                    pack.unlink()
                return

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the other slots of the node out; make the repository if there is none."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "fetch.lock"):
            if not (self.path / "objects").is_dir():
                self._bare.initialise("node")
            yield

    def newest(self) -> tuple[CommitId, ...]:
        """Return what the head is to be told of: the base, and what was wanted last."""
        others = [commit for commit in self._by_age() if commit != self._pinned]
        pinned = [self._pinned] if self.has_base() else []
        return (*pinned, *reversed(others[-MOST_NAMED:]))

    def take(self, commit: CommitId, pack: Path) -> None:
        """Take in a pack that brings `commit`; while `held`.

        Raises GitError where it is damaged, or rests on what is not here.
        """
        git = self._bare.git
        with pack.open("rb", buffering=0) as file:  # git reads on where the descriptor stands
            count = int.from_bytes(file.read(_HEADER_BYTES)[-4:])
            file.seek(0)
            if count <= _LOOSE:
                git.run("unpack-objects", "-q", _STRICT, stdin=file)
            else:
                git.run("index-pack", "--stdin", "--fix-thin", _STRICT, stdin=file)
        git.run("update-ref", f"refs/node/{commit}", commit)

    def prune(self) -> None:
        """Let go of the older half of what was fetched where that is too much; while `held`."""
        found = self._by_age()
        if len(found) <= self._most_kept:
            return
        old = [commit for commit in found[: len(found) // 2] if commit != self._pinned]
        lines = "".join(f"delete refs/node/{commit}\n" for commit in old)
        self._bare.git.run("update-ref", "--stdin", stdin=lines.encode())
        self._bare.git.run("prune", "--expire=now", check=False)  # the next time, if not now

    def _by_age(self) -> list[CommitId]:
        """Return all commits that were fetched, those first that were not wanted for longest."""
        try:
            with os.scandir(self._refs) as entries:
                found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries]
        except FileNotFoundError:
            return []
        return [CommitId(name) for _, name in sorted(found) if not name.endswith(".lock")]
