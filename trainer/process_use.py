"""What the processes below this one take: memory and threads, read off /proc (Linux).

Knows how memory that processes share is told from memory of their own. Does not know limits.
Standard library only: the supervisor imports this module in an isolated interpreter.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_RESIDENT = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
_PROPORTIONAL = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
_PAGE_TABLES = b"VmPTE:"
_THREADS = b"Threads:"
_FILE_BYTES = 1024
"""What the kernel needs for a file in memory, an empty one too: about an inode and a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """What a process tree took at one moment."""

    pids: tuple[int, ...]
    tasks: int
    """Processes and threads."""
    resident_bytes: int
    """Memory that is no cached file; what processes share counts for each of them."""
    page_table_bytes: int
    """What the kernel keeps beside it to find it again, which is never shared."""


def look(most_tasks: int | None) -> ProcessUse:
    """Return what all descendants of this process take.

    Stops counting beyond `most_tasks`, so that a fork bomb is not followed to its end. A process
    takes about 40 microseconds, and 10 more for each thread.
    """
    pids: list[int] = []
    tasks = resident = page_tables = 0
    for pid in descendants():
        facts = _kilobytes(f"/proc/{pid}/status", (*_RESIDENT, _PAGE_TABLES, _THREADS))
        pids.append(pid)
        tasks += facts.pop(_THREADS, 1)  # a zombie takes a number too
        page_tables += facts.pop(_PAGE_TABLES, 0)
        resident += sum(facts.values())
        if most_tasks is not None and tasks > most_tasks:
            break
    return ProcessUse(
        pids=tuple(pids),
        tasks=tasks,
        resident_bytes=resident << 10,
        page_table_bytes=page_tables << 10,
    )


class SharedOnce:
    """Adds up, a little at a time, what a process tree takes where shared memory counts once.

    The kernel walks the page tables for it: about 10 ms for each GB in small pages, and as often as
    it is shared. A process that shares the memory of its parent as a whole, as between vfork(2) and
    exec, counts twice.
    """

    def __init__(self, use: ProcessUse) -> None:
        self._waiting = list(use.pids)
        self.bytes = use.page_table_bytes
        """As far as it has come."""

    def look(self, budget_s: float, most_bytes: float) -> bool:
        """Count on for `budget_s` seconds of a core or so; say whether that was the end of it.

        That it is as well once there are more than `most_bytes`.
        """
        give_up_at = time.thread_time() + budget_s
        while self._waiting and self.bytes <= most_bytes:
            self.bytes += _proportional(self._waiting.pop())
            if time.thread_time() >= give_up_at:
                break
        return not self._waiting or self.bytes > most_bytes


def _proportional(pid: int) -> int:
    facts = _kilobytes(f"/proc/{pid}/smaps_rollup", _PROPORTIONAL)
    facts = facts or _kilobytes(f"/proc/{pid}/status", _RESIDENT)  # not to be read by us
    return sum(facts.values()) << 10


def kept_for_files(pids: Sequence[int]) -> int:
    """Return the bytes that the kernel keeps for files in memory file systems of these processes.

    That is for each file as such: what is in them has a limit, their number has hardly any. Of
    processes in a user namespace other than ours alone; what makes it, and is the first in it, may
    still see the file systems that we see. They are in one sandbox, so one of them tells for all.
    """
    own = Path("/proc/self/ns/user").readlink()
    is_first = True
    for pid in pids:
        with suppress(OSError):  # ended meanwhile, or not to be looked into by us
            if Path(f"/proc/{pid}/ns/user").readlink() == own:
                continue
            if not is_first:
                top = Path("/proc", str(pid), "root")  # what it sees as /
                return sum(_files_in(top, line) for line in _memory_mounts(pid))
            is_first = False
    return 0


def _memory_mounts(pid: int) -> list[list[bytes]]:
    mounts = [line.split() for line in _read(f"/proc/{pid}/mountinfo").splitlines()]
    return [words for words in mounts if words[words.index(b"-") + 1] == b"tmpfs"]


def _files_in(root: Path, mount: list[bytes]) -> int:
    _, _, device, _, point, *_ = mount
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        opened = os.open(os.fsencode(root) + point, flags)
    except OSError:  # a file, or the way there was moved
        return 0
    try:
        found = os.fstat(opened).st_dev
        if b"%d:%d" % (os.major(found), os.minor(found)) != device:
            return 0
        use = os.fstatvfs(opened)
        return (use.f_files - use.f_ffree) * _FILE_BYTES
    finally:
        os.close(opened)


def descendants() -> Iterator[int]:
    """Walk down the lists of children of this process; each is visited as late as possible."""
    waiting = [os.getpid()]
    while waiting:
        for child in _children(waiting.pop()):
            yield child
            waiting.append(child)


def _children(pid: int) -> list[int]:
    listed = bytearray()
    try:
        threads = [each.name for each in os.scandir(f"/proc/{pid}/task")]
    except OSError:  # ended meanwhile
        return []
    for thread in threads:  # a child is its parent thread's, not the process' as a whole
        try:
            listed += _read(f"/proc/{pid}/task/{thread}/children")
        except FileNotFoundError:
            if not _HAS_CHILDREN_LISTS:
                return _children_by_parent(pid)
        except OSError:
            continue
    return [int(each) for each in listed.split()]


def _children_by_parent(parent: int) -> list[int]:
    """For kernels built without CONFIG_PROC_CHILDREN."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                stat = _read(f"{entry.path}/stat")
                # "pid (name) state ppid ...", and the name may hold anything, parentheses too.
                if int(stat.rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


def _kilobytes(path: str, names: tuple[bytes, ...]) -> dict[bytes, int]:
    try:
        lines = _read(path).splitlines()
    except OSError:  # ended meanwhile, or not to be read by us
        return {}
    found = (line.split(maxsplit=2) for line in lines if line.startswith(names))
    return {name: int(value) for name, value, *_ in found}


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - Path costs as much as the read
        return file.readall()


_HAS_CHILDREN_LISTS = Path(f"/proc/self/task/{os.getpid()}/children").exists()
