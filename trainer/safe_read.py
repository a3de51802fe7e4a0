"""Reads what a candidate left behind, as if an enemy had left it.

Knows how a name is opened without following links, waiting for a pipe's other end, leaving the
folder or the file system, and how much is read at most. Does not know what the files mean: who gets
bytes from here still must not believe them (no pickle, no code).

Linux resolves such a name in one step (openat2, since 5.6). Where that is missing, or refused by
an old container runtime, each component is opened on its own; nobody may write there meanwhile
then, which holds here, for a candidate's processes are dead before anything of it is read.

Standard library only.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

MOST_FILES = 20_000
"""What `files` lists at most, folders and everything else included."""
MOST_DEPTH = 64
"""Folders within folders that `files` enters."""

_SYS_OPENAT2 = 437
"""The same number on every architecture."""
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = _FILE | os.O_DIRECTORY
_NO_OPENAT2 = frozenset({errno.ENOSYS, errno.EPERM})
"""Docker below 20.10 answers EPERM to system calls that it has never heard of."""
_CHUNK_BYTES = 1 << 20
_REASONS = {
    errno.ELOOP: "is a symbolic link or lies behind one",
    errno.EXDEV: "leads out of the folder or onto another file system",
    errno.ENXIO: "is a socket or a pipe",
    errno.ENOTDIR: "is no folder or lies behind something that is none",
    errno.EISDIR: "is a folder",
    errno.EACCES: "may not be read",
    errno.ENAMETOOLONG: "has too long a name",
    errno.EAGAIN: "is held or moved by somebody",
}


class Unsafe(Exception):
    """Something that a candidate left and that must not be read."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} {reason}")
        self.name = name
        self.reason = reason
        """What is wrong with it, to follow its name: "is a folder"."""


class _OpenHow(ctypes.Structure):
    """`struct open_how` of <linux/openat2.h>."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something below a folder."""

    name: str
    """Relative to the folder. Chosen by the candidate: not always printable, nor UTF-8."""
    size: int
    """In bytes; of a regular file alone, else 0."""
    problem: str = ""
    """Why it would not be read, e.g. "is a symbolic link"; empty for a regular file."""


class SafeFolder:
    """A folder that a candidate wrote to. A context manager; `close` may be repeated.

    Names are relative, with slashes. A name that is not there is a FileNotFoundError; one that is
    there and is not a plain file of the candidate's own is Unsafe; any other OSError is this
    machine's own trouble.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder; whoever wrote to it must not be able to write to the folder above it.

        Raises FileNotFoundError, or Unsafe if there is something else than a folder.
        """
        with _explained(path.name):
            self._root = os.open(path, _FOLDER)
        self._device = os.fstat(self._root).st_dev

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Give the folder back."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return a file's content; Unsafe if that is more than `most_bytes`."""
        return b"".join(self.chunks(name, most_bytes))

    def copy(self, name: str, target: Path, most_bytes: int) -> None:
        """Copy a file's content, and nothing else of it, to `target`, which must not exist.

        Raises FileExistsError besides; after any error `target` is as it was.
        """
        source = self.chunks(name, most_bytes)
        first = next(source, b"")  # a name that cannot be opened leaves no target
        try:
            with target.open("xb") as file:
                file.write(first)
                file.writelines(source)
        except FileExistsError:
            raise
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def chunks(self, name: str, most_bytes: int, *, start: int = 0) -> Iterator[bytes]:
        """Yield a file's content from byte `start` on, a MiB at a time.

        `most_bytes` bounds the file's whole size and, should it grow meanwhile, what is read.
        """
        file = self._open(name, _FILE)
        try:
            _check(name, os.fstat(file), most_bytes)
            os.lseek(file, start, os.SEEK_SET)
            at = start
            while chunk := os.read(file, min(_CHUNK_BYTES, max(0, most_bytes - at) + 1)):
                at += len(chunk)
                if at > most_bytes:
                    raise Unsafe(name, f"grew beyond {most_bytes} bytes while it was read")
                yield chunk
        finally:
            os.close(file)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        file = self._open(name, _FILE)
        try:
            found = os.fstat(file)
            _check(name, found, found.st_size)
            return found.st_size
        finally:
            os.close(file)

    def read_link(self, name: str) -> bytes:
        """Return what a symbolic link says, without going there; Unsafe if it is none."""
        _check_name(name)
        above, _, last = name.rpartition("/")
        folder = self._open(above, _FOLDER) if above else os.dup(self._root)
        try:
            return os.readlink(os.fsencode(last), dir_fd=folder)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise Unsafe(name, "is no symbolic link") from error
            raise
        finally:
            os.close(folder)

    def files(self, most: int = MOST_FILES) -> Iterator[Found]:
        """Yield everything below the folder but folders, in no particular order.

        Links are named, never followed. Raises Unsafe where there are more than `most` things or
        folders lie deeper than `MOST_DEPTH`: then nobody meant to hand over files.
        """
        count = 0
        pending = [""]
        while pending:
            folder = pending.pop()
            if folder.count("/") >= MOST_DEPTH:
                raise Unsafe(folder[:80], f"lies deeper than {MOST_DEPTH} folders")
            for name, found in self._listed(folder):
                count += 1
                if count > most:
                    raise Unsafe(folder or ".", f"holds more than {most} files and folders")
                if stat.S_ISDIR(found.st_mode):
                    pending.append(f"{name}/")
                else:
                    problem = _problem(found)
                    yield Found(name=name, size=0 if problem else found.st_size, problem=problem)

    @contextmanager
    def scan(self, name: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """List a folder while somebody may still change it: as os.scandir, "" is the folder itself.

        Of the entries only `name`, and what does not follow links, is to be asked.
        """
        opened = self._open(name, _FOLDER) if name else os.dup(self._root)
        try:
            with os.scandir(opened) as entries:
                yield entries
        finally:
            os.close(opened)

    def _listed(self, folder: str) -> list[tuple[str, os.stat_result]]:
        with self.scan(folder.rstrip("/")) as entries:
            return [(f"{folder}{each.name}", each.stat(follow_symlinks=False)) for each in entries]

    def _open(self, name: str, flags: int) -> int:
        _check_name(name)
        with _explained(name):
            try:
                return _openat2(self._root, name, flags)
            except OSError as error:
                if error.errno not in _NO_OPENAT2:
                    raise
            return self._open_by_parts(name, flags)

    def _open_by_parts(self, name: str, flags: int) -> int:
        *above, last = name.split("/")
        folder = os.dup(self._root)
        try:
            for part in above:
                inner = self._step(folder, part, _FOLDER)
                os.close(folder)
                folder = inner
            return self._step(folder, last, flags)
        finally:
            os.close(folder)

    def _step(self, folder: int, part: str, flags: int) -> int:
        opened = os.open(part, flags, dir_fd=folder)
        if os.fstat(opened).st_dev != self._device:
            os.close(opened)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), part)
        return opened


def _openat2(folder: int, name: str, flags: int) -> int:
    """Open `name` below a folder; raises OSError, ENOSYS where the kernel lacks the call."""
    how = _OpenHow(flags=flags, mode=0, resolve=_RESOLVE)
    opened: int = _libc().syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(folder),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if opened < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return opened


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the kernel says of a candidate's doings into Unsafe."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise Unsafe(name, _REASONS[error.errno]) from error


def _check_name(name: str) -> None:
    parts = name.split("/")
    if "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise Unsafe(name, "is no name within the folder")


def _check(name: str, found: os.stat_result, most_bytes: int) -> None:
    if problem := _problem(found):
        raise Unsafe(name, problem)
    if found.st_size > most_bytes:
        raise Unsafe(name, f"has {found.st_size} bytes, more than {most_bytes}")


def _problem(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return f"is {_kind(found.st_mode)}"
    # A second name may be one of ours, outside the folder: its content need not be the candidate's.
    return "" if found.st_nlink == 1 else f"has {found.st_nlink} names (hard links)"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
