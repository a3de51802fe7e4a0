"""Host-wide locks, so that two studies never book one card, one CPU slot or one user for trials.

Knows flock(2) and what may go wrong in a folder that everybody may write to. Does not know devices:
they are names, "gpu-<uuid>", "cpu-<k>" or "user-<uid>". Other hosts and other users are none of its
business, except that a device which another user's study holds is held.

    LOCKS/cpu-0/1000-mar5       one folder a device, one file a study (user id, name) that used it

A worker holds flock on its own study's file, shared or exclusive, for as long as it lives; so the
kernel frees the device whatever the worker dies of. To see whether others hold theirs and to take
one's own is one step under a short lock on the device's folder.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK
"""No links (a planted one could name any file of ours), and no waiting for a pipe's other end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBy:
    """A device is taken."""

    study: str
    pid: int | None
    """Process that took it last; None where that is not to be read."""


class SlotLock:
    """The right to use a device, until `release` or the end of this process."""

    def __init__(self, device: str, descriptor: int) -> None:
        self.device = device
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the device back; may be repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_folder() -> Path:
    """Return where this host's locks are: INCUMBENT_LOCK_DIR, or a folder that all users share."""
    chosen = os.environ.get("INCUMBENT_LOCK_DIR")
    # Not TMPDIR: it may differ between two studies of one host.
    return Path(chosen) if chosen else Path("/tmp/incumbent-locks")  # noqa: S108 -- see _open_folder


def try_hold(
    device: str, study: str, *, exclusive: bool, folder: Path | None = None
) -> SlotLock | HeldBy:
    """Take `device` for `study`, or say who has it; never waits for long.

    Workers of one study may hold a device together unless one of them asks for it `exclusive`.
    Raises OSError if the locks' folder cannot be used.
    """
    with _guarded(device, folder or lock_folder()) as guard:
        own = f"{os.geteuid()}-{quote(study, safe='')}"
        with os.scandir(guard) as entries:
            others = [entry.name for entry in entries if entry.name != own]
        for name in others:
            if holder := _holder(guard, name):
                return holder
        descriptor = _open_own(guard, own)
        if not _flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
            os.close(descriptor)
            return HeldBy(study=study, pid=_pid_in(guard, own))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return SlotLock(device, descriptor)


def hold_any_cpu(count: int, study: str, *, folder: Path | None = None) -> SlotLock | HeldBy:
    """Take the first free one of cpu-0 to cpu-(count - 1), or say who has the last of them."""
    answer: SlotLock | HeldBy = HeldBy(study=study, pid=None)
    for number in range(count):
        answer = try_hold(f"cpu-{number}", study, exclusive=True, folder=folder)
        if isinstance(answer, SlotLock):
            break
    return answer


@contextmanager
def _guarded(device: str, folder: Path) -> Iterator[int]:
    """Open the device's folder and hold it alone for a moment; yields its descriptor."""
    root = _open_folder(folder, None)
    try:
        guard = _open_folder(Path(quote(device, safe="")), root)
    finally:
        os.close(root)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield guard
    finally:
        os.close(guard)


def _open_folder(path: Path, parent: int | None) -> int:
    """Open a folder that every user may write to, made if missing; raise OSError if it is none."""
    with suppress(FileExistsError):
        if parent is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(path, 0o700, dir_fd=parent)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=parent)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid():
        os.fchmod(descriptor, 0o1777)  # the umask does not count, unlike in mkdir
    elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "anybody may remove locks from this folder", str(path))
    return descriptor


def _open_own(guard: int, name: str) -> int:
    """Open this study's file, made if missing; raise PermissionError if it is not ours alone."""
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | _OPEN, 0o644, dir_fd=guard)
    found = os.fstat(descriptor)
    is_ours = found.st_uid == os.geteuid() and found.st_nlink == 1
    if not is_ours or not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "somebody else made this lock file", name)
    return descriptor


def _holder(guard: int, name: str) -> HeldBy | None:
    """Return who holds the file `name`, if anybody; remove it if nobody does."""
    try:
        descriptor = os.open(name, os.O_RDONLY | _OPEN, dir_fd=guard)
    except OSError as error:
        # A link, or a file that vanished or that no study made, holds nothing.
        return _named(name, None) if error.errno == errno.EACCES else None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        if not _flock(descriptor, fcntl.LOCK_EX):
            return _named(name, _pid_in(guard, name))
        with suppress(OSError):  # another user's: the folder is sticky
            os.unlink(name, dir_fd=guard)
        return None
    finally:
        os.close(descriptor)


def _named(name: str, pid: int | None) -> HeldBy:
    return HeldBy(study=unquote(name.partition("-")[2]), pid=pid)


def _pid_in(guard: int, name: str) -> int | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | _OPEN, dir_fd=guard)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 32)
    finally:
        os.close(descriptor)
    return int(text) if text.strip().isdigit() else None


def _flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
