"""The disk that a study's code is written to, where it is full: how that is known, and the wait.

Whatever is done must bear being done again: it may have got halfway.
"""

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trainer.git_command import GitError

log = logging.getLogger("incumbent")

FULL_S = 120.0
"""How long there may be no room before the controller gives up; as long as for a server."""
PAUSE_S = 2.0
_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_SAID_BY_GIT = re.compile(
    # Of a file that it could make and not write, git often does not say why.
    r"No space left on device|Disk quota exceeded|Input/output error|Out of diskspace"
    r"|couldn't write '|unable to (?:write (?:new index )?file|create directory for) "
)


class NoRoom(RuntimeError):
    """A disk is full, a quota is used up, or a device fails: what was to be written is not there.

    It may be later.
    """


def is_lack_of_room(error: OSError | GitError) -> bool:
    """Say whether it is for room on a disk that something failed."""
    if isinstance(error, GitError):
        return _SAID_BY_GIT.search(error.stderr) is not None
    return error.errno in _NUMBERS


@contextmanager
def needs_room() -> Iterator[None]:
    """Raise NoRoom in place of the OSError or GitError that a lack of room becomes."""
    try:
        yield
    except (OSError, GitError) as error:
        if not is_lack_of_room(error):
            raise
        raise NoRoom(f"there is no room on the disk ({_words(error)})") from error


def with_room(action: Callable[[], None], *, recover: Callable[[], None]) -> None:
    """Run an action, again once there is room on a disk that was full.

    Args:
        action: what is to be done.
        recover: is called before the action is run again; it raises NoRoom while there is none,
            and else puts right what the action may have left half done.

    Raises:
        NoRoom: there was none for FULL_S.
    """
    waited_s = 0.0
    while True:
        try:
            if waited_s:
                recover()
            action()
        except NoRoom as error:
            if not waited_s:
                log.warning("%s: waiting for up to %.0f s", error, FULL_S)
            elif waited_s >= FULL_S:
                raise
            time.sleep(PAUSE_S)
            waited_s += PAUSE_S
        else:
            if waited_s:
                log.info("there is room on the disk again, after %.0f s", waited_s)
            return


def _words(error: OSError | GitError) -> str:
    if isinstance(error, GitError):
        return str(error)
    reason = os.strerror(error.errno or 0)
    return f"{reason}: {error.filename}" if error.filename else reason
