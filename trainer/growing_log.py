"""Logs to which processes append for weeks, cut from outside once they are long.

Knows files that are opened for appending: whoever writes to one goes on at its new end, be it a
process that nobody can tell to write elsewhere. Does not know who writes what. A log that was cut
looks as one of a trial's: see trainer.log_capture.
"""

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from trainer.log_capture import GAP, HEAD_BYTES, TAIL_BYTES

LOOK_S = 30.0
_LONGEST = HEAD_BYTES + 2 * TAIL_BYTES
"""So that a log is cut once a MiB, not with every line."""
_CUT = re.compile(re.escape(GAP).replace(b"%d", rb"(\d+)"))


def anew(path: Path) -> BinaryIO:
    """Open a log anew, to be appended to, whoever else still does."""
    log = path.open("ab")
    log.truncate(0)
    return log


def cut(path: Path) -> bool:
    """Cut the middle out of a log that is too long; say whether it was.

    What is written in that moment may be lost. A log that is not there, or cannot be cut, is let
    be.
    """
    try:
        if path.stat().st_size <= _LONGEST:
            return False
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _cut(file)
    except OSError:  # another process is at it, or the disk is full
        return False
    finally:
        os.close(file)


def _cut(file: int) -> bool:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    size = os.fstat(file).st_size
    if size <= _LONGEST:
        return False
    before = _CUT.match(os.pread(file, len(GAP) + 20, HEAD_BYTES))
    dropped = size - HEAD_BYTES - TAIL_BYTES
    if before:
        dropped += int(before[1]) - len(before[0])
    kept = memoryview(GAP % dropped + os.pread(file, TAIL_BYTES, size - TAIL_BYTES))
    os.ftruncate(file, HEAD_BYTES)
    while kept:
        kept = kept[os.write(file, kept) :]
    return True


def keep_short(logs: Callable[[], Iterable[Path]]) -> None:
    """Cut what is too long of these, now and then, for as long as this process lives."""

    def look() -> None:
        while True:
            with suppress(OSError):  # a folder that goes while it is looked through
                for log in logs():
                    cut(log)
            time.sleep(LOOK_S)

    threading.Thread(target=look, daemon=True).start()
