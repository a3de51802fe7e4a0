"""How to end every process that a trial started, and to be sure of it (Linux).

Knows child subreapers, death signals, /proc and SIGKILL. Does not know what the processes do.
Standard library only: the supervisor imports this module in an isolated interpreter.

There are two ways to find what a trial left. From within, a *subreaper* (prctl(2)) becomes the
parent of every orphan below it, daemons that forked twice and called setsid() included; so, when it
has no children, it has no descendants. From without, after the subreaper itself was killed, the
mark in the environment of each process tells; a process that cleared its environment escapes this.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.trial_user import TRIAL_UIDS

MARK_VARIABLE = "INCUMBENT_TRIAL"
"""Environment variable that holds a trial's mark, STUDY/SLOT/TRIAL."""

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)

_PATIENCE_S = 10.0
"""How long to wait for killed processes; one in an uninterruptible system call may take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A child process that has ended."""

    pid: int
    exit_code: int
    """Negative is a signal."""
    cpu_s: float
    """User and system time, with the descendants that it waited for."""
    max_rss_mb: float


def become_subreaper() -> None:
    """Make this process the parent of all orphans below it; raise OSError if the kernel refuses."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Let this process be killed when the thread that started it ends; `parent` is its process.

    To be called between fork and exec. The signal is lost on exec of a set-user-ID program.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before prctl took effect: then no signal will ever come.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def oom_score_adjustment() -> int:
    """Return by how much the kernel prefers this process as a victim when memory runs out."""
    return int(Path("/proc/self/oom_score_adj").read_text())


def adjust_oom_score(value: int) -> None:
    """Set that preference, within -1000 to 1000; lowering it may raise PermissionError."""
    Path("/proc/self/oom_score_adj").write_text(str(max(-1000, min(1000, value))))


def count_oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since the machine started.

    Counts control groups' kills too. 0 where the kernel does not say.
    """
    with suppress(FileNotFoundError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def reap() -> tuple[list[Reaped], bool]:
    """Collect the children that have ended, without waiting; say too whether any child is left."""
    ended: list[Reaped] = []
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended.append(
            Reaped(
                pid=pid,
                exit_code=os.waitstatus_to_exitcode(status),
                cpu_s=usage.ru_utime + usage.ru_stime,
                max_rss_mb=usage.ru_maxrss / 1024,
            )
        )


def end_descendants(patience_s: float = _PATIENCE_S) -> tuple[list[Reaped], bool]:
    """Kill and reap until this process, a single-threaded subreaper, has no descendants.

    Returns the children that ended and whether any is left (only after `patience_s` seconds).

    Kills none but direct children and their process groups: these cannot be somebody else's by
    re-use of a number, since it stays taken until the parent, that is we, has reaped the child.
    What a killed child had started becomes a child of ours and has its turn in the next round.
    """
    give_up_at = time.monotonic() + patience_s
    ended, is_any_left = reap()
    signalled: set[int] = set()
    while is_any_left and time.monotonic() < give_up_at:
        children = set(_children())
        for pid in children:
            _kill_with_group(pid)
        # A chain of processes that fork and exit is caught only by being as quick as they are.
        if children <= signalled:
            time.sleep(0.001)
        signalled |= children
        more, is_any_left = reap()
        ended += more
    return ended, is_any_left


def sweep(mark_prefix: str, patience_s: float = _PATIENCE_S) -> int:
    """Kill this user's and its trials' processes whose mark starts with `mark_prefix`; count them.

    The prefix ends in a slash, so that "s/cpu-1/" spares the processes of "s/cpu-10/"; raises
    ValueError otherwise. Returns when none is left, or after `patience_s` seconds.
    """
    if not mark_prefix.endswith("/"):
        raise ValueError(f"a mark's prefix must end in a slash: {mark_prefix!r}")
    return _sweep(f"{MARK_VARIABLE}={mark_prefix}", patience_s)


def sweep_run(mark: str, patience_s: float = _PATIENCE_S) -> int:
    """Do the same for the processes of one run: its slot's next may wait beside it already."""
    return _sweep(f"{MARK_VARIABLE}={mark}\0", patience_s)


def _sweep(variable: str, patience_s: float) -> int:
    wanted = b"\0" + os.fsencode(variable)
    give_up_at = time.monotonic() + patience_s
    killed: set[int] = set()
    while time.monotonic() < give_up_at:
        found = {pid for pid in _own_processes() if wanted in _environment(pid)}
        if not found:
            break
        for pid in found:
            _kill(pid)
        killed |= found
        time.sleep(0.005)
    return len(killed)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def _children() -> list[int]:
    pid = os.getpid()
    try:
        listed = Path(f"/proc/self/task/{pid}/children").read_text()
    except FileNotFoundError:  # a kernel built without CONFIG_PROC_CHILDREN
        return [each for each in _own_processes() if _parent(each) == pid]
    return [int(each) for each in listed.split()]


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    # "pid (name) state ppid ...", and the name may hold anything, parentheses too.
    return int(stat.rpartition(")")[2].split()[1])


def _own_processes() -> Iterator[int]:
    own = {os.geteuid()}
    if os.geteuid() == 0:
        own.update(TRIAL_UIDS)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.stat().st_uid in own:
                yield int(entry.name)
        except OSError:
            continue


def _environment(pid: int) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # ended meanwhile, or not to be read by us
        return b""


def _kill_with_group(pid: int) -> None:
    with suppress(OSError):
        group = os.getpgid(pid)
        if group != os.getpgrp():
            os.killpg(group, signal.SIGKILL)
    _kill(pid)


def _kill(pid: int) -> None:
    with suppress(OSError):  # gone already, or another user's by a set-user-ID program
        os.kill(pid, signal.SIGKILL)
