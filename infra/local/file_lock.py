"""Locks on files by which a process shows that it lives: the kernel frees one when it dies.

Knows flock(2). Does not know what the files say of who holds them.
"""

import fcntl
import time
from typing import IO, Any

_PATIENCE_S = 2.0
_AGAIN_S = 0.05


def is_locked(file: IO[Any]) -> bool:
    """Say whether another process holds the lock of an open file.

    Until the file is closed, who asks holds it as well: see `locked_soon`.
    """
    return not _taken(file, fcntl.LOCK_SH)


def try_lock(file: IO[Any]) -> bool:
    """Take the lock of an open file, until that is closed; False if another process has it."""
    return _taken(file, fcntl.LOCK_EX)


def locked_soon(file: IO[Any]) -> bool:
    """Do as `try_lock`, but wait for those who only ask who holds it: they have it for a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (is_ours := try_lock(file)) and time.monotonic() < deadline:
        time.sleep(_AGAIN_S)
    return is_ours


def _taken(file: IO[Any], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
