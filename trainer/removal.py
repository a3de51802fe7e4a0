"""Removes what candidates left, whatever they made of it, without holding anything up.

Knows hostile folders and how to be rid of them. Does not know what was in them.
"""

import itertools
import os
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainer.own_python import FIND_OURS, variables

_AT_ONCE_S = 0.2
"""A few thousand files; what takes longer goes to a process of its own, which takes longer yet."""
_CLOSE_S = 5.0
_EMPTY = f"""\
{FIND_OURS}
import os
from pathlib import Path
from trainer.removal import remove_tree
os.nice(19)
for each in Path(sys.argv[1]).iterdir():
    remove_tree(each)
"""


def remove_tree(path: Path, *, within_s: float | None = None) -> bool:
    """Remove whatever is at `path`, if anything, without following a symbolic link.

    Unlike `shutil.rmtree` it minds neither read-only folders nor folders nested deeper than a path
    may be long or Python may recurse: each folder is moved up into `path` before it is emptied.
    Says whether it has come to the end within `within_s` seconds; it may be called again. Raises
    OSError where something belongs to somebody else. Nobody else may write there meanwhile.
    """
    until = None if within_s is None else time.monotonic() + within_s
    return all(until is None or time.monotonic() < until for _ in _removals(path))


def _removals(path: Path) -> Iterator[None]:
    """Remove, and yield between any two steps."""
    if not is_folder(path):
        path.unlink(missing_ok=True)
        return
    started = time.time_ns()  # so that no name from inside, or of an interrupted removal, is met
    numbers = itertools.count()
    path.chmod(0o700)
    while found := list(path.iterdir()):
        for entry in found:
            yield
            if not is_folder(entry):
                entry.unlink()
                continue
            entry.chmod(0o700)
            for inner in entry.iterdir():
                yield
                if is_folder(inner):
                    inner.chmod(0o700)  # moving a folder writes its parent entry
                    inner.rename(path / f"{started}-{next(numbers)}")
                else:
                    inner.unlink()
            entry.rmdir()
    path.rmdir()


def is_folder(path: Path) -> bool:
    """Say whether there is a folder, and no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


class Trash:
    """A folder on the same file system, in which things vanish; for one process at a time.

    What is thrown away is out of its place at once. It is removed at once too, unless there is too
    much of it: then a child process of the lowest priority goes on.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, with whatever an earlier process has left there."""
        self._folder = folder
        self._remover: subprocess.Popen[bytes] | None = None

    def throw(self, *paths: Path) -> None:
        """Remove these, of which any may be missing; raises OSError if one cannot be moved."""
        for path in paths:
            if os.path.lexists(path):
                self._remove(self._take(path))
        if self._folder.is_dir() and any(self._folder.iterdir()):
            self._go_on()

    def close(self) -> None:
        """Wait a few seconds for what is still being removed; the rest is left for the next."""
        if self._remover is not None:
            with suppress(subprocess.TimeoutExpired):
                self._remover.wait(_CLOSE_S)
            self._remover.kill()
            self._remover.wait()
            self._remover = None

    def _take(self, path: Path) -> Path:
        place = self._folder / uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        if is_folder(path):
            path.chmod(0o700)  # moving a folder writes its parent entry
        return path.rename(place)

    @staticmethod
    def _remove(path: Path) -> None:
        with suppress(OSError):  # whatever hinders it is not in anybody's way here
            remove_tree(path, within_s=_AT_ONCE_S)

    def _go_on(self) -> None:
        if self._remover is not None and self._remover.poll() is None:
            return
        with suppress(OSError):
            self._remover = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _EMPTY, os.fspath(self._folder)],
                cwd="/",
                env=variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
