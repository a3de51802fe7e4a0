"""Where the head puts what comes back from nodes, as if the nodes were not to be trusted.

Knows names, sizes and modes: nothing is written but regular files of mode 0644 below the study's
`logs`, and below folders that nobody else writes to, until they are complete and take their place.
Does not know who sends.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.ledger.codec import from_json, to_json
from cluster.transport.manifest import Left, Manifest, Room, problem_with
from trainer.disk_room import lack_of_room
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES
from trainer.paths import KINDS, WorkerPaths
from trainer.removal import remove_tree

ROOM = Room(bytes=1 << 30)
MOST_LOG_BYTES = HEAD_BYTES + TAIL_BYTES + 4096
"""What the supervisor keeps of a log, and the line that says what was dropped."""
BROKEN_OFF_S = 3600.0
"""When nothing more has come of a delivery for so long, its sender is gone, or begins it anew."""
_LOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,80}\.log")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,80}-[0-9]{1,6}")
_FOR_A_WHILE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}
)
_TOKEN = re.compile(r"[0-9a-f]{8,32}")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Refused(ValueError):
    """Something that is never taken, however often it is sent; the message says why."""


class Overtaken(ConnectionError):
    """A part of a delivery that is over, or that a later one has taken the place of."""


class Shelf:
    """The folders of one study on the head.

    What an attempt left comes in deliveries, of which only the last that was begun counts. Each is
    told by a token of its own: a part that the network held up belongs to the delivery that it was
    made for, and cannot spoil the one that followed.
    """

    def __init__(self, paths: WorkerPaths, room: Room = ROOM) -> None:
        """Write below the study's folder, of each attempt as much as there is room for."""
        self._paths = paths
        self.room = room
        self._used: dict[Path, int] = {}
        """Bytes of each delivery that is under way."""
        self._cleared_at = -BROKEN_OFF_S

    def append_log(self, name: str, offset: int, data: bytes) -> int:
        """Go on with a log at `offset`, if it is as long as that; return how long it is now."""
        path = self._log(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _refused(name):
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
        with _refused(name):
            fresh.replace(path)

    def begin(self, name: str, token: str) -> Room:
        """Begin a delivery in the place of any earlier one; return how much of it is taken."""
        folder = self._delivery(name, token)
        folder.mkdir(mode=0o700, parents=True)
        self._clear(folder.parent.parent)
        for other in folder.parent.iterdir():
            if other != folder:
                remove_tree(other)
                self._used.pop(other, None)
        self._used[folder] = 0
        lack = lack_of_room(folder)
        return Room(lack=lack) if lack else self.room

    def _clear(self, deliveries: Path) -> None:
        """Remove, now and then, what nodes that are gone for good have broken off."""
        if time.monotonic() - self._cleared_at < BROKEN_OFF_S:
            return
        self._cleared_at = time.monotonic()
        for path in deliveries.iterdir():
            is_ours = _NAME.fullmatch(path.name) or _LOG.fullmatch(path.name)
            with suppress(OSError):  # it is finished at this moment
                if is_ours and time.time() - _changed_at(path) > BROKEN_OFF_S:
                    remove_tree(path)
                    for folder in [*self._used]:
                        if folder.parent == path:
                            self._used.pop(folder, None)

    def put(self, delivery: tuple[str, str], place: str, offset: int, data: bytes) -> None:
        """Write a part of a file, the parts in their order.

        Args:
            delivery: name of the attempt, and token.
            place: `out/NAME`, or `predictions/NAME`.
            offset: where in the file.
            data: what is there.
        """
        folder = self._delivery(*delivery)
        kind, _, file = place.partition("/")
        if kind not in KINDS or problem_with(file):
            raise Refused(f"{delivery[0]} holds no file {place!r}")
        if not folder.is_dir():
            raise Overtaken(f"{delivery[0]} was delivered in another way")
        used = self._used[folder] = self._used.get(folder, 0) + len(data)
        most = self.room.bytes + self.room.needed_bytes
        if used > most:
            raise Refused(f"{delivery[0]} holds more than {most} bytes")
        path = folder / kind / file
        with _refused(file):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _APPEND, 0o644)
        with os.fdopen(descriptor, "wb") as opened:
            opened.seek(offset)
            opened.write(data)

    def finish(self, name: str, token: str, manifest: Manifest) -> None:
        """Put what came of an attempt in its place, and say what it is.

        Of files only those that are whole by the manifest: sending one may have failed in between.
        """
        folder = self._delivery(name, token)
        if not folder.is_dir():
            raise Overtaken(f"{name} was delivered in another way")
        for kind, files in zip(KINDS, (manifest.files, manifest.predictions), strict=True):
            if _keep_whole(folder / kind, files):
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
        remove_tree(folder.parent)
        self._used.pop(folder, None)

    def _log(self, name: str) -> Path:
        if not _LOG.fullmatch(name):
            raise Refused(f"{name!r} is no log")
        return self._paths.study / "logs" / name

    def _delivery(self, name: str, token: str) -> Path:
        if not (_NAME.fullmatch(name) and _TOKEN.fullmatch(token)):
            raise Refused(f"{name!r} {token!r} is no delivery of what a trial left")
        return self._paths.returning(name) / token


def _changed_at(path: Path) -> float:
    """Return when something was last written to a file, or to anything in a folder."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _keep_whole(folder: Path, files: Iterable[Left]) -> bool:
    """Remove files that are not here as they are listed; say whether any is left."""
    whole = {each.name: each.bytes for each in files if not each.stayed}
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    partial = [
        path
        for path in found
        if whole.get(os.fspath(path.relative_to(folder))) != path.stat().st_size
    ]
    for path in partial:
        path.unlink()
    return len(found) > len(partial)


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """Tell what would fail at the next attempt too from a disk that is full for a while."""
    try:
        yield
    except OSError as error:
        if error.errno in _FOR_A_WHILE:
            raise
        raise Refused(f"{name}: {error.strerror}") from error


def read_manifest(file: Path) -> Manifest | None:
    """Return what came back of an attempt; None if that is not known yet."""
    try:
        return from_json(Manifest, file.read_bytes())
    except FileNotFoundError:
        return None
