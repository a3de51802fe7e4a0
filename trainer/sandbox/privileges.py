"""Giving up root for good, while keeping in sight what only root can reach.

A bwrap that real root starts leaves /proc/sys to the trial, which is the machine (core_pattern is
the name of a program that the kernel runs as root): so root becomes somebody else first. But the
virtual environment, its interpreter and the run folders may lie below a folder that is root's
alone, its home above all, and bwrap must reach them by some path. So each is mounted once more,
under a number, in a folder that everybody can enter, and nobody else sees: in a mount namespace of
this process and its children, which ends with them.

To be called between fork and exec. Linux, standard library only: the supervisor imports this module
in an isolated interpreter. Every failure is an OSError that says what could not be done.
"""

import ctypes
import os
import stat
from collections.abc import Sequence
from pathlib import Path

STAGE = Path("/tmp")  # noqa: S108 - the one folder that bwrap itself needs, and mounts upon
"""Below it, by number, `stage` shows things; what it had held is out of sight."""

# From linux/sched.h and linux/mount.h.
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV = 0x2, 0x4
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)


def staged(index: int) -> str:
    """Return where `stage` shows the source of this position."""
    return f"{STAGE}/{index}"


def stage(sources: Sequence[str]) -> None:
    """Show each of `sources` at `staged(index)`, to this process and its future children alone.

    Needs CAP_SYS_ADMIN. File permissions stay what they are.
    """
    if _LIBC.unshare(_CLONE_NEWNS) != 0:
        raise _failure("a mount namespace cannot be made")
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # Opened before the folder is covered, for they may lie in it; in the new namespace, for what is
    # opened in another cannot be mounted in this one.
    handles = [os.open(source, os.O_PATH | os.O_CLOEXEC) for source in sources]
    try:
        _mount("tmpfs", str(STAGE), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
        for index, handle in enumerate(handles):
            place = Path(staged(index))
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                place.mkdir()
            else:
                place.touch()
            _mount(f"/proc/self/fd/{handle}", str(place), None, _MS_BIND | _MS_REC)
    finally:
        for handle in handles:
            os.close(handle)


def drop(uid: int) -> None:
    """Become this user, and the group of the same number, with no way back.

    Clears the signal of `process_tree.die_with_parent`: ask for it again.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _mount(source: str, place: str, kind: str | None, flags: int, options: str = "") -> None:
    code = _LIBC.mount(
        os.fsencode(source),
        os.fsencode(place),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    if code != 0:
        raise _failure(f"{place} cannot be mounted")


def _failure(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")
