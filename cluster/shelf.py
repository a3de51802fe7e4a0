"""Where the head puts what comes back from nodes, as if the nodes were not to be trusted.

Knows names, sizes and modes: nothing is written but regular files of mode 0644 below the study's
`logs`, and below folders that nobody else writes to, until they are complete and take their place.
Does not know who sends.
"""

import os
import re
import stat
from pathlib import Path

from cluster.codec import from_json, to_json
from cluster.manifest import Manifest, problem_with
from trainer.disk_room import lack_of_room
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES
from trainer.paths import WorkerPaths
from trainer.removal import remove_tree

KINDS = ("out", "predictions")
"""Folders of the study in which what a trial left is kept."""
MOST_BYTES = 1 << 30
MOST_LOG_BYTES = HEAD_BYTES + TAIL_BYTES + 4096
"""What the supervisor keeps of a log, and the line that says what was dropped."""
_LOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,80}\.log")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,80}-[0-9]{1,6}")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Refused(ValueError):
    """Something that no node of ours sends."""


class Shelf:
    """The folders of one study on the head; each attempt is written by one caller at a time."""

    def __init__(self, paths: WorkerPaths, *, most_bytes: int = MOST_BYTES) -> None:
        """Write below the study's folder, of each attempt `most_bytes` at most."""
        self._paths = paths
        self.most_bytes = most_bytes
        self._used: dict[str, int] = {}
        """Bytes that each attempt has sent of late."""

    def append_log(self, name: str, offset: int, data: bytes) -> int:
        """Go on with a log at `offset`, if it is as long as that; return how long it is now."""
        path = self._log(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, _APPEND, 0o644)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise Refused(f"{name} is no file of ours")
            if found.st_size < offset or offset + len(data) > MOST_LOG_BYTES:
                return found.st_size
            return offset + os.pwrite(file, data, offset)
        finally:
            os.close(file)

    def put_log(self, name: str, data: bytes) -> None:
        """Replace a log by all that there is of it: a reader sees the old one or the new."""
        path = self._log(name)
        if len(data) > MOST_LOG_BYTES:
            raise Refused(f"{name} is too long for a log")
        fresh = self._paths.returning(name)
        fresh.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fresh.chmod(0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(path)

    def begin(self, name: str) -> str:
        """Make room for what an attempt left; say why there is none, if so."""
        folder = self._returning(name)
        self._used.pop(name, None)
        remove_tree(folder)
        folder.mkdir(mode=0o700, parents=True)
        return lack_of_room(folder)

    def put(self, kind: str, name: str, file: str, offset: int, data: bytes) -> None:
        """Write a part of a file, the parts in their order."""
        if kind not in KINDS or problem_with(file):
            raise Refused(f"{kind}/{name} holds no file {file!r}")
        folder = self._returning(name)
        used = self._used[name] = self._used.get(name, 0) + len(data)
        if used > self.most_bytes:
            raise Refused(f"{name} holds more than {self.most_bytes} bytes")
        path = folder / kind / file
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, _APPEND, 0o644)
        with os.fdopen(descriptor, "wb") as opened:
            opened.seek(offset)
            opened.write(data)

    def finish(self, name: str, manifest: Manifest) -> None:
        """Put everything that came of an attempt in its place, and say what it is. Repeatable."""
        folder = self._returning(name)
        for kind in KINDS:
            if (folder / kind).is_dir():
                kept = self._paths.kept(kind, name)
                kept.parent.mkdir(parents=True, exist_ok=True)
                remove_tree(kept)
                (folder / kind).rename(kept)
                kept.chmod(0o755)
        file = self._paths.returned(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_bytes(to_json(manifest))
        fresh.replace(file)
        remove_tree(folder)
        self._used.pop(name, None)

    def _log(self, name: str) -> Path:
        if not _LOG.fullmatch(name):
            raise Refused(f"{name!r} is no log")
        return self._paths.study / "logs" / name

    def _returning(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} is no attempt at a trial")
        return self._paths.returning(name)


def read_manifest(file: Path) -> Manifest | None:
    """Return what came back of an attempt; None if that is not known yet."""
    try:
        return from_json(Manifest, file.read_bytes())
    except FileNotFoundError:
        return None
