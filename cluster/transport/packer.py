"""Makes what a node lacks of a commit into one pack, which is what a git bundle carries.

Knows the study's repository, which it only reads: no ref is made for it. Does not know nodes, nor
how a pack gets there. What a node has already is named, and left out; of what remains most is
deltas against that (`--thin`), so that a candidate costs a few hundred bytes whatever its tree.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as StillRunning
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.transport.errands import Errands
from trainer.git_command import GitCommand
from trainer.trial import CommitId

PART_BYTES = 4 << 20
"""What is handed over at a time: it passes through Ray's object store, which is small."""
FIRST_BYTES = 64 << 10
"""A pack of no more comes at once; of a larger one that it is there, so that the answer is quick
however slow the network is."""
MOST_NAMED = 64
"""Commits that a node may name as there."""
MOST_WHOLE = 2
"""Packs being made of all of the repository: each takes a core, and memory."""
ANSWER_S = 5.0
"""How long somebody who asks for a pack waits for it, before being told to ask again."""
GIT_S = 600.0
"""How long git may take for one pack before it is ended: then its disk hangs."""
_KEPT_S = 600.0
"""For how long a pack that takes several parts is kept after a part was asked for."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A pack, or that it is there."""

    key: str
    """By which further parts are asked for."""
    size: int
    """Bytes of all parts."""
    first: bytes
    """All of it, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The pack is still being made: ask again, at once."""


class Packer:
    """Packs commits of one repository; may be used from several threads."""

    def __init__(
        self,
        repository: Path,
        folder: Path,
        *,
        part_bytes: int = PART_BYTES,
        answer_s: float = ANSWER_S,
        git_s: float = GIT_S,
    ) -> None:
        """Keep packs that take several parts in `folder`, for a while."""
        self._git = GitCommand(repository)
        self._folder = folder
        self._part_bytes = part_bytes
        self._answer_s = answer_s
        self._git_s = git_s
        self._errands = Errands()
        self._whole = threading.BoundedSemaphore(MOST_WHOLE)

    def pack(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
        """Return the pack of a commit for somebody who has `have`, with all their history.

        Commits that are not known here are no help, and ignored. None if `commit` is not known.
        Takes `answer_s` seconds at most. Raises GitError, OSError.
        """
        asked = (commit, *have[:MOST_NAMED])
        key = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:24]
        making = self._errands.begin(key, partial(self._make, self._path(key), asked))
        try:
            is_known = making.result(self._answer_s)
        except StillRunning:
            return Packing()
        return self._parcel(key) if is_known else None

    def _parcel(self, key: str) -> Parcel | Packing:
        path = self._path(key)
        try:
            size = path.stat().st_size
            is_small = size <= min(FIRST_BYTES, self._part_bytes)
            first = self._read(path, 0) if is_small else b""
        except FileNotFoundError:  # another node wanted just the same, and has taken it away
            return Packing()
        if is_small:
            path.unlink(missing_ok=True)
        return Parcel(key=key, size=size, first=first)

    def more(self, key: str, offset: int) -> bytes:
        """Return a further part; empty if the pack is not kept any more, or ends there."""
        if not re.fullmatch(r"[0-9a-f]{24}", key):
            return b""
        try:
            return self._read(self._path(key), offset)
        except FileNotFoundError:
            return b""

    def _make(self, path: Path, asked: Sequence[CommitId]) -> bool:
        """Make a pack unless it is there; False if what is asked for first is not known."""
        self._expire()
        if path.exists():
            return True
        known = self._known(asked)
        if asked[0] not in known:
            return False
        lines = [asked[0], *sorted(f"^{each}" for each in known if each != asked[0])]
        if len(lines) > 1:
            self._write(path, lines)
        else:
            with self._whole:
                self._write(path, lines)
        return True

    def _known(self, commits: Sequence[CommitId]) -> frozenset[CommitId]:
        asked = [commit for commit in commits if _COMMIT.fullmatch(commit)]
        lines = "".join(f"{commit}^{{commit}}\n" for commit in asked)
        told = self._git.run(
            "cat-file", "--batch-check", stdin=lines.encode(), timeout_s=self._git_s
        ).stdout
        found = {line.split(b" ")[0].decode() for line in told.splitlines() if b" commit " in line}
        return frozenset(commit for commit in asked if commit in found)

    def _write(self, path: Path, lines: Sequence[str]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            self._git.run(
                *("pack-objects", "--quiet", "--stdout", "--revs", "--thin", "--delta-base-offset"),
                stdin="".join(f"{line}\n" for line in lines).encode(),
                stdout=file,
                timeout_s=self._git_s,
            )
        fresh.replace(path)

    def _read(self, path: Path, offset: int) -> bytes:
        with path.open("rb") as file:
            os.utime(path)
            file.seek(offset)
            return file.read(self._part_bytes)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.pack"

    def _expire(self) -> None:
        now = time.time()
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > _KEPT_S:
                    path.unlink()
