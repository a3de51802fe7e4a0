"""Control groups of the kernel: limits on memory and processes that hold exactly (Linux).

Knows cgroups of both versions, where this process may make some, and how to be rid of them. Does
not know what a run is, nor the other ways to limit one. Standard library only: the supervisor
imports this module in an isolated interpreter.

Version 2 allows processes only in groups that do not hand controllers on. So where the group of
this process is the only one in which others can be made, all its processes move into one below it.

    PARENT/incumbent.STUDY%2fcpu-0.4026531836-4711-815.3     one run: slot, supervisor, number

A supervisor is its process, of its namespace, with its start: containers may share these folders.
"""

import errno
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.run_records import Enforcement, Limits

_SELF = Path("/proc/self")
_UNLIMITED_V1 = 1 << 60
_CONTROLLERS = frozenset({"memory", "pids"})
_PREFIX = "incumbent."
_MAIN = "incumbent-main"
"""Holds the processes of a version 2 group that had to be emptied."""
_DELEGATED = ("user.delegate", "trusted.delegate")
"""Extended attributes by which systemd says that a group is its processes' own to divide."""
_CHARGE_BYTES = 1 << 20
"""More than is asked for at once where the answer no makes the kernel kill something."""
_SPLIT_ATTEMPTS = 10
_ENDED = frozenset("ZX")
"""States of a process that nobody has reaped yet."""


class NoControlGroups(RuntimeError):
    """No groups with the controllers needed can be made by this process; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where this process may make groups."""

    enforcement: Enforcement
    memory: Path
    pids: Path
    """The same folder as `memory` in version 2."""
    must_split: bool = False
    """Whether the processes that are in it have to move first."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The different ones of both."""
        return tuple(dict.fromkeys((self.memory, self.pids)))


def find_place(process: Path = _SELF) -> Place:
    """Return where groups can be made; nothing is changed. Raises NoControlGroups."""
    paths, mounts = _own_groups(process)
    if paths.keys() >= _CONTROLLERS:
        return _place_v1(mounts, paths)
    if "" not in paths:
        raise NoControlGroups("the kernel has no control groups for memory and processes")
    top, folder = _mounted(mounts, "cgroup2", "", paths[""])
    return _place_v2(top, folder)


def memory_ceiling(process: Path = _SELF) -> int | None:
    """Return how many bytes the groups that this process is in allow; None if there is no limit."""
    try:
        paths, mounts = _own_groups(process)
        if "memory" in paths:
            _, own = _mounted(mounts, "cgroup", "memory", paths["memory"])
            (limit,) = _numbers(own / "memory.stat", ("hierarchical_memory_limit",))
            found = {limit} if 0 < limit < _UNLIMITED_V1 else set()
        else:
            top, own = _mounted(mounts, "cgroup2", "", paths.get("", "/"))
            folders = [own, *(each for each in own.parents if each.is_relative_to(top))]
            words = frozenset().union(*(_words(folder / "memory.max") for folder in folders))
            found = {int(word) for word in words - {"max"}}
    except (NoControlGroups, OSError):
        return None
    return min(found, default=None)


def _own_groups(process: Path) -> tuple[dict[str, str], list[str]]:
    """Return the group of a process by controller ("" for version 2), and the lines of mounts."""
    try:
        own = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError as error:
        raise NoControlGroups(f"the kernel tells of none: {error}") from error
    paths: dict[str, str] = {}
    for line in own:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    return paths, mounts


def _place_v1(mounts: list[str], paths: dict[str, str]) -> Place:
    memory, pids = (_mounted(mounts, "cgroup", name, paths[name])[1] for name in ("memory", "pids"))
    for folder in (memory, pids):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise NoControlGroups(f"{folder} is not to be written to by this user")
    return Place(enforcement=Enforcement.CGROUP_V1, memory=memory, pids=pids)


def _place_v2(top: Path, own: Path) -> Place:
    missing = _CONTROLLERS - _words(own / "cgroup.controllers")
    if missing:
        raise NoControlGroups(f"{own} has no controllers for {' and '.join(sorted(missing))}")
    if _is_delegated(own) and _may_divide(own):
        return _in_v2(own, must_split=not _hands_on(own))
    for folder in (own, *own.parents):
        if _hands_on(folder) and _may_divide(folder):
            return _in_v2(folder)
        if folder == top:
            break
    if own == top and _may_divide(own):  # a container's own group
        return _in_v2(own, must_split=True)
    raise NoControlGroups(f"{own} is not delegated to this user")


def _in_v2(folder: Path, *, must_split: bool = False) -> Place:
    return Place(
        enforcement=Enforcement.CGROUP_V2, memory=folder, pids=folder, must_split=must_split
    )


def _mounted(mounts: list[str], kind: str, controller: str, path: str) -> tuple[Path, Path]:
    """Return where a hierarchy is mounted, and the folder of the group `path` in it."""
    for line in mounts:
        mount, _, source = line.partition(" - ")
        _, _, _, root, point, *_ = mount.split(" ")
        found, _, options = source.split(" ", 2)
        if found != kind or (controller and controller not in options.split(",")):
            continue
        if Path(path).is_relative_to(root):
            return Path(point), Path(point) / Path(path).relative_to(root)
    raise NoControlGroups(f"the group {path} of this process is nowhere to be seen")


def _hands_on(folder: Path) -> bool:
    return _words(folder / "cgroup.subtree_control") >= _CONTROLLERS


def _may_divide(folder: Path) -> bool:
    # Processes change groups by leave of the group that is above both.
    return os.access(folder, os.W_OK | os.X_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _is_delegated(folder: Path) -> bool:
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _words(file: Path) -> frozenset[str]:
    try:
        return frozenset(file.read_text().split())
    except OSError:
        return frozenset()


class ControlGroup:
    """The group of one run, with its limits."""

    def __init__(self, enforcement: Enforcement, memory: Path, pids: Path) -> None:
        self.enforcement = enforcement
        self._memory = memory
        self._pids = pids
        self.folders = tuple(dict.fromkeys((memory, pids)))

    def limit(self, limits: Limits) -> None:
        """Set the limits, before anything is in the group; raises OSError."""
        if limits.memory_bytes is not None:
            if self.enforcement is Enforcement.CGROUP_V2:
                _write(self._memory / "memory.max", limits.memory_bytes)
                _write(self._memory / "memory.oom.group", 1)
                self._refuse_swap("memory.swap.max", 0)
            else:
                _write(self._memory / "memory.limit_in_bytes", limits.memory_bytes)
                self._refuse_swap("memory.memsw.limit_in_bytes", limits.memory_bytes)
        if limits.pids is not None:
            _write(self._pids / "pids.max", limits.pids)

    def _refuse_swap(self, file: str, value: int) -> None:
        with suppress(FileNotFoundError):  # the kernel has no swap, or does not account it
            _write(self._memory / file, value)

    def enter(self) -> None:
        """Move this process into the group, threads and all; what it starts is in it as well."""
        for folder in self.folders:
            _write(folder / "cgroup.procs", 0)

    def memory_bytes(self) -> int:
        """Return what its processes hold now: memory and temporary files, but no cached files."""
        is_v2 = self.enforcement is Enforcement.CGROUP_V2
        names = ("anon", "shmem") if is_v2 else ("total_rss", "total_shmem")
        return sum(_numbers(self._memory / "memory.stat", names))

    def is_over_memory(self) -> bool:
        """Say whether the kernel has killed something in it because of the limit on its memory.

        A kill alone may have been for want of memory on the whole machine.
        """
        if self.enforcement is Enforcement.CGROUP_V2:
            killed, refused = _numbers(self._memory / "memory.events", ("oom_kill", "oom"))
            return bool(killed and refused)
        (killed,) = _numbers(self._memory / "memory.oom_control", ("oom_kill",))
        # Not memory.failcnt: Linux 6.18 leaves it 0.
        most, limit = (
            int((self._memory / f"memory.{name}_in_bytes").read_text())
            for name in ("max_usage", "limit")
        )
        return bool(killed) and most >= limit - _CHARGE_BYTES

    def is_over_pids(self) -> bool:
        """Say whether the kernel has refused it a process or a thread."""
        return bool(sum(_numbers(self._pids / "pids.events", ("max",))))

    def kill(self) -> None:
        """Kill whatever is in it; what escaped from our process tree too."""
        for folder in self.folders:
            _kill_all(folder)

    def remove(self) -> bool:
        """Remove the group; False if the kernel is not done with it yet."""
        removed = [_remove(folder) for folder in self.folders]
        return all(removed)


class ControlGroups:
    """The groups of one supervisor's runs, made where `place` is for the slot `slot`."""

    def __init__(self, place: Place, slot: str) -> None:
        self._place = place
        name = re.sub(r"[^A-Za-z0-9-]", lambda found: f"%{ord(found[0]):x}", slot)
        self._slot = f"{_PREFIX}{name}."
        self._count = 0
        self._old: list[ControlGroup] = []
        if place.must_split:
            _split(place.memory)
        self._bury_others()

    def make(self, limits: Limits) -> ControlGroup:
        """Return a new group with these limits; raises OSError."""
        self.bury()
        self._count += 1
        pid = os.getpid()
        name = f"{self._slot}{_namespace()}-{pid}-{_start_of(pid)}.{self._count}"
        place = self._place
        group = ControlGroup(place.enforcement, place.memory / name, place.pids / name)
        try:
            for folder in group.folders:
                folder.mkdir()
            group.limit(limits)
        except OSError:
            self.retire(group)
            raise
        return group

    def retire(self, group: ControlGroup) -> None:
        """Take back a group that is empty; it is removed in time."""
        self._old.append(group)
        self.bury()

    def bury(self, patience_s: float = 0.0) -> None:
        """Remove what is empty. Version 1 may take a second to be done with a group's memory."""
        give_up_at = time.monotonic() + patience_s
        while self._old:
            self._old = [group for group in self._old if not group.remove()]
            if time.monotonic() >= give_up_at:
                return
            time.sleep(0.01)

    def _bury_others(self) -> None:
        """Kill and retire what killed supervisors of this slot left."""
        names = {
            entry.name
            for folder in self._place.folders
            for entry in folder.iterdir()
            if entry.name.startswith(self._slot) and not _may_own(entry.name)
        }
        place = self._place
        for name in names:
            group = ControlGroup(place.enforcement, place.memory / name, place.pids / name)
            group.kill()
            self._old.append(group)


def _split(folder: Path) -> None:
    """Move all processes of a group into one below it, and hand the controllers on."""
    main = folder / _MAIN
    main.mkdir(exist_ok=True)
    for attempt in range(_SPLIT_ATTEMPTS):
        for pid in _members(folder):
            with suppress(ProcessLookupError):
                _write(main / "cgroup.procs", pid)
        try:
            _write(folder / "cgroup.subtree_control", "+memory +pids")
        except OSError as error:  # somebody has forked meanwhile
            if error.errno != errno.EBUSY or attempt == _SPLIT_ATTEMPTS - 1:
                raise
        else:
            return


def _may_own(name: str) -> bool:
    """Say whether the owner of a group lives; one in another namespace of processes may."""
    *namespace, pid, start = map(int, name.split(".")[-2].split("-"))
    is_elsewhere = namespace not in ([_namespace()], [])  # none: of an earlier version
    return is_elsewhere or _start_of(pid) == start


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_of(pid: int) -> int:
    """Return when a process was started, in clock ticks; 0 if there is none that still runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    # "pid (name) state ...", and the name may hold anything; starttime is the 22nd field.
    state, *rest = stat.rpartition(")")[2].split()
    return 0 if state in _ENDED else int(rest[18])


def _kill_all(folder: Path) -> None:
    with suppress(OSError):
        _write(folder / "cgroup.kill", 1)  # version 2, Linux 5.14: all at once
        return
    for pid in _members(folder):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _members(folder: Path) -> list[int]:
    with suppress(OSError):
        pids = map(int, (folder / "cgroup.procs").read_text().split())
        return [pid for pid in pids if pid]  # 0: it is in a namespace that we do not see
    return []


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _numbers(file: Path, names: tuple[str, ...]) -> Iterator[int]:
    """Return the values of lines "name value", 0 for those that are not there."""
    values = dict(line.split(" ", 1) for line in file.read_text().splitlines())
    return (int(values.get(name, 0)) for name in names)


def _write(file: Path, value: int | str) -> None:
    # By the file's own name and no other: these files are there or the kernel has no such thing.
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
