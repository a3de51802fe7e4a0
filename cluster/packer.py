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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.git_command import GitCommand
from trainer.trial import CommitId

PART_BYTES = 4 << 20
"""What is handed over at a time: it passes through Ray's object store, which is small."""
MOST_NAMED = 64
"""Commits that a node may name as there."""
MOST_AT_ONCE = 2
"""Packs being made: each takes a core, and memory."""
_KEPT_S = 600.0
"""For how long a pack that takes several parts is kept after a part was asked for."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A pack, or its first part."""

    key: str
    """By which further parts are asked for."""
    size: int
    """Bytes of all parts."""
    first: bytes


class Packer:
    """Packs commits of one repository; may be used from several threads."""

    def __init__(self, repository: Path, folder: Path, *, part_bytes: int = PART_BYTES) -> None:
        """Keep packs that take several parts in `folder`, for a while."""
        self._git = GitCommand(repository)
        self._folder = folder
        self._part_bytes = part_bytes
        self._at_once = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def pack(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | None:
        """Return the pack of a commit for somebody who has `have`, with all their history.

        Commits that are not known here are no help, and ignored. None if `commit` is not known.
        Raises GitError, OSError.
        """
        known = self._known([commit, *have[:MOST_NAMED]])
        if commit not in known:
            return None
        lines = [commit, *sorted(f"^{each}" for each in known if each != commit)]
        key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]
        self._expire()
        with self._alone(key):
            path = self._path(key)
            if not path.exists():
                self._make(path, lines)
            first, size = self._read(path, 0), path.stat().st_size
            if size <= self._part_bytes:
                path.unlink()
        return Parcel(key=key, size=size, first=first)

    def more(self, key: str, offset: int) -> bytes:
        """Return a further part; empty if the pack is not kept any more, or ends there."""
        if not re.fullmatch(r"[0-9a-f]{24}", key):
            return b""
        try:
            return self._read(self._path(key), offset)
        except FileNotFoundError:
            return b""

    def _known(self, commits: Sequence[CommitId]) -> frozenset[CommitId]:
        asked = [commit for commit in commits if _COMMIT.fullmatch(commit)]
        lines = "".join(f"{commit}^{{commit}}\n" for commit in asked)
        told = self._git.run("cat-file", "--batch-check", stdin=lines.encode()).stdout
        found = {line.split(b" ")[0].decode() for line in told.splitlines() if b" commit " in line}
        return frozenset(commit for commit in asked if commit in found)

    def _make(self, path: Path, lines: Sequence[str]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with self._at_once, fresh.open("wb") as file:
            self._git.run(
                *("pack-objects", "--quiet", "--stdout", "--revs", "--thin", "--delta-base-offset"),
                stdin="".join(f"{line}\n" for line in lines).encode(),
                stdout=file,
            )
        fresh.replace(path)

    def _read(self, path: Path, offset: int) -> bytes:
        with path.open("rb") as file:
            os.utime(path)
            file.seek(offset)
            return file.read(self._part_bytes)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.pack"

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Let one thread make a pack that several ask for."""
        with self._lock:
            lock = self._making.setdefault(key, threading.Lock())
        with lock:
            yield
        with self._lock:
            if not lock.locked():
                self._making.pop(key, None)

    def _expire(self) -> None:
        now = time.time()
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            try:
                if now - path.stat().st_mtime > _KEPT_S:
                    path.unlink()
            except FileNotFoundError:
                continue
