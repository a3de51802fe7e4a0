"""What the processes below this one take: memory and threads, read off /proc (Linux).

Knows how memory that processes share is told from memory of their own. Does not know limits.
Standard library only: the supervisor imports this module in an isolated interpreter.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_RESIDENT = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
_PROPORTIONAL = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
_THREADS = b"Threads:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """What a process tree took at one moment."""

    pids: tuple[int, ...]
    tasks: int
    """Processes and threads."""
    resident_bytes: int
    """Memory that is no cached file; what processes share counts for each of them."""


def look(most_tasks: int | None) -> ProcessUse:
    """Return what all descendants of this process take.

    Stops counting beyond `most_tasks`, so that a fork bomb is not followed to its end. A process
    takes about 40 microseconds, and 10 more for each thread.
    """
    pids: list[int] = []
    tasks = resident = 0
    for pid in descendants():
        facts = _kilobytes(f"/proc/{pid}/status", (*_RESIDENT, _THREADS))
        pids.append(pid)
        tasks += facts.pop(_THREADS, 1)  # a zombie takes a number too
        resident += sum(facts.values())
        if most_tasks is not None and tasks > most_tasks:
            break
    return ProcessUse(pids=tuple(pids), tasks=tasks, resident_bytes=resident << 10)


def shared_once(use: ProcessUse) -> int:
    """Return the bytes that the tree takes where shared memory counts once, as of now.

    The kernel walks the page tables for it: about 10 ms for each GB in small pages. A process that
    shares the memory of its parent as a whole, as between vfork(2) and exec, counts twice.
    """
    total = 0
    for pid in use.pids:
        facts = _kilobytes(f"/proc/{pid}/smaps_rollup", _PROPORTIONAL)
        facts = facts or _kilobytes(f"/proc/{pid}/status", _RESIDENT)  # not to be read by us
        total += sum(facts.values())
    return total << 10


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
