"""How much the folders of a run hold, found out a little at a time.

Knows blocks, files and folders that somebody else changes meanwhile, in bad faith perhaps. Does not
know limits. Standard library only: the supervisor imports this module in an isolated interpreter.
"""

import errno
import os
import time
from collections.abc import Iterator, Sequence

_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own (stat(2))."""
_PER_CLOCK = 64
"""Entries between two looks at the clock."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


class FolderUse:
    """Counts what is in some folders, in passes that may take several calls.

    Counts allocated blocks: a sparse file takes what was written to it. A file with several names
    counts once. Symbolic links are not followed.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
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
        waiting = list(self._folders)
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        if self._count(entry, seen):
                            waiting.append(entry.path)
                        if self.files % _PER_CLOCK == 0:
                            yield
            except OSError as error:
                if error.errno not in _GONE:
                    self.hidden = error.strerror or str(error)
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
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                return is_folder
            seen.add(identity)
        self.bytes += status.st_blocks * _BLOCK_BYTES
        return is_folder
