"""How much the folders of a run hold, found out a little at a time.

Knows blocks, files and folders that somebody else changes meanwhile, in bad faith perhaps: a folder
may have become a link to anywhere on the machine between two looks, so none is opened by a name
that could lead through one. Does not know limits. Standard library only: the supervisor imports
this module in an isolated interpreter.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from trainer.safe_read import SafeFolder, Unsafe

_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own (stat(2))."""
_PER_CLOCK = 64
"""Entries between two looks at the clock."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What was a folder a moment ago has another name, or is something else, a link among that."""


class FolderUse:
    """Counts what is in some folders, in passes that may take several calls.

    Counts allocated blocks: a sparse file takes what was written to it. A file with several names
    counts once. Symbolic links are not followed. A file that has lost its name and is still open
    takes its place all the same, and is found among the open files of `processes`; one that is only
    mapped is not, nor are those of a process that we may not look into.
    """

    def __init__(
        self, folders: Sequence[str], processes: Callable[[], Iterable[int]] = tuple
    ) -> None:
        self._folders = folders
        self._processes = processes
        self._pass = self._walk()
        self.bytes = 0
        """As far as the present pass has come."""
        self.files = 0
        """Files and folders, likewise."""
        self.hidden = ""
        """What the operating system said of a folder that cannot be looked into, if there is one.

        No checkout has such a folder; a trial can make one to hide things in.
        """

    def look(self, budget_s: float) -> bool:
        """Count on for `budget_s` seconds or so; say whether that was the end of a pass.

        The next call begins another, then.
        """
        give_up_at = time.monotonic() + budget_s
        for _ in self._pass:
            if time.monotonic() >= give_up_at:
                return False
        self._pass = self._walk()
        return True

    def _walk(self) -> Iterator[None]:
        self.bytes = self.files = 0
        self.hidden = ""
        seen: set[tuple[int, int]] = set()
        for folder in self._folders:
            try:
                with SafeFolder(Path(folder)) as opened:
                    yield from self._walk_in(opened, seen)
            except (OSError, Unsafe) as error:
                self._note(error)
        yield from self._walk_nameless(seen)

    def _walk_in(self, folder: SafeFolder, seen: set[tuple[int, int]]) -> Iterator[None]:
        waiting = [""]
        while waiting:
            name = waiting.pop()
            try:
                with folder.scan(name) as entries:
                    for entry in entries:
                        if self._count(entry, seen):
                            waiting.append(f"{name}/{entry.name}" if name else entry.name)
                        if self.files % _PER_CLOCK == 0:
                            yield
            except (OSError, Unsafe) as error:
                self._note(error)
            yield

    def _note(self, error: Exception) -> None:
        """Remember of a folder that it cannot be looked into, unless there is none any more."""
        cause = error.__cause__ if isinstance(error, Unsafe) else error
        if isinstance(cause, OSError) and cause.errno not in _GONE:
            self.hidden = cause.strerror or str(cause)

    def _walk_nameless(self, seen: set[tuple[int, int]]) -> Iterator[None]:
        devices = set()
        for folder in self._folders:
            with suppress(OSError):
                devices.add(Path(folder).stat().st_dev)
        for pid in self._processes():
            for status in _open_files(pid):
                if status.st_nlink == 0 and status.st_dev in devices:
                    self._count_once(status, seen)
            yield

    def _count(self, entry: os.DirEntry[str], seen: set[tuple[int, int]]) -> bool:
        """Add an entry up; say whether it is a folder."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        self.files += 1
        is_folder = entry.is_dir(follow_symlinks=False)
        if status.st_nlink > 1 and not is_folder:
            self._count_once(status, seen)
        else:
            self.bytes += status.st_blocks * _BLOCK_BYTES
        return is_folder

    def _count_once(self, status: os.stat_result, seen: set[tuple[int, int]]) -> None:
        """Add the size of a file up that may be met again."""
        identity = (status.st_dev, status.st_ino)
        if identity not in seen:
            seen.add(identity)
            self.bytes += status.st_blocks * _BLOCK_BYTES


def _open_files(pid: int) -> Iterator[os.stat_result]:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:  # until it ends, if it may be looked into by us at all
            with suppress(OSError):
                yield entry.stat()
