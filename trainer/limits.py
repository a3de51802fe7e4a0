"""The limits of a run: on memory, disk, processes and open files.

Knows the two ways to hold them - control groups, exactly, or a watchdog and rlimits, as well as
can be - and chooses. Does not know how the run is started or ended: it says what to do before exec,
and which limit was hit. Standard library only: the supervisor imports this module in an isolated
interpreter.
"""

import math
import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer import process_use
from trainer.control_group import (
    ControlGroup,
    ControlGroups,
    NoControlGroups,
    Place,
    find_place,
)
from trainer.folder_use import FolderUse
from trainer.run_records import EndedBy, Enforcement, Limits

GB = 1_000_000_000
_FIRST_LOOK_S = 0.05
_LOOK_S = 0.25
_CONFIRM_S = 0.05
"""How soon to look again at memory that is above its limit, or at a pass that is not done."""
_SHARED_S = 0.02
"""What one look at memory that processes share may take: a thousand of them could hold us up."""
_FOLDERS_S = 0.004
"""What one look at the folders may take: about 1,000 files."""
_LAST_FOLDERS_S = 0.25
"""The same after the end, when there will be no other look."""
_MOST_SHARE = 0.05
"""Looking takes no more of a core than this; a look that takes longer makes the next one later."""
_LEAST_PIDS_SLACK = 16
"""How many more than it may a trial can have before the kernel refuses: then we see it do so."""
_RLIMIT_SLACK = 1 << 30
"""Stacks of threads count as data, whether they are used or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A limit that was hit."""

    ended_by: EndedBy
    reason: str
    """Which one, by its name in the configuration."""


class RunLimits:
    """Holds one run to its limits. Made before it starts, closed after its last process ended.

    Without `groups`, or if no group can be had, the watchdog does what it can. A run whose limits
    are None has none, and is not looked at.
    """

    def __init__(self, limits: Limits | None, groups: ControlGroups | None = None) -> None:
        self._limits = limits or Limits()
        self._groups = groups
        self._group = _make(groups, limits) if limits else None
        self.enforcement = _enforcement(limits, self._group)
        """None for a run without limits."""
        self.peak_bytes = 0
        """Most memory that was seen; from a watchdog, what is shared may count several times."""
        self.next_at = time.monotonic() + _FIRST_LOOK_S if limits else math.inf
        """When to call `check` next."""
        self._folders = FolderUse(self._limits.folders, process_use.descendants)
        self._is_memory_suspect = False
        self._shared: process_use.SharedOnce | None = None
        """Counts what the run's processes share, while that takes more than one look."""

    @property
    def counts_all_memory(self) -> bool:
        """Say whether memory counts that no process has mapped: in files that have no name, say."""
        return self._group is not None

    def enter(self) -> None:
        """Put this process under the limits, between fork and exec; raises OSError."""
        if self.enforcement is None:
            return
        if self._group:
            self._group.enter()
        for kind, value in self._rlimits().items():
            _lower(kind, value)

    def _rlimits(self) -> dict[int, int | None]:
        limits = self._limits
        # 1 makes no file either, and unlike 0 also keeps a crash from a program that collects them.
        found = {resource.RLIMIT_CORE: 1, resource.RLIMIT_NOFILE: limits.open_files}
        if limits.disk_bytes is not None:
            # It holds for shared memory too, which is a file to the kernel.
            found[resource.RLIMIT_FSIZE] = max(limits.disk_bytes, limits.memory_bytes or 0)
        if limits.memory_bytes is not None and self._group is None:
            # Stops what grows faster than we look. Not RLIMIT_AS: CUDA reserves address space
            # many times the machine's memory.
            found[resource.RLIMIT_DATA] = 2 * limits.memory_bytes + _RLIMIT_SLACK
        return found

    def check(self, now: float) -> Breach | None:
        """Look, if it is time to; return the limit that was hit, if one was."""
        if now < self.next_at:
            return None
        interval = _LOOK_S
        breach = self._check_processes()
        if self._is_memory_suspect or self._shared:
            interval = _CONFIRM_S
        if breach is None and self._limits.folders:
            is_done = self._folders.look(_FOLDERS_S)
            breach = self._check_folders()
            interval = interval if is_done else _CONFIRM_S
        ended_at = time.monotonic()
        self.next_at = ended_at + max(interval, (ended_at - now) / _MOST_SHARE)
        return breach

    def check_end(self) -> Breach | None:
        """Look once more, after the last process has ended."""
        breach = self._check_group(self._group) if self._group else None
        if breach is None and self._limits.folders:
            self._folders = FolderUse(self._limits.folders)
            self._folders.look(_LAST_FOLDERS_S)
            breach = self._check_folders()
        return breach

    def kill(self) -> None:
        """Kill what is in the run's group, if it has one, wherever that has gone meanwhile."""
        if self._group:
            self._group.kill()

    def close(self) -> None:
        """Give the group back, if there is one; to be called once."""
        if self._group and self._groups:
            self._groups.retire(self._group)

    def _check_processes(self) -> Breach | None:
        return self._check_group(self._group) if self._group else self._check_tree()

    def _check_group(self, group: ControlGroup) -> Breach | None:
        self.peak_bytes = max(self.peak_bytes, group.memory_bytes())
        if group.is_over_memory():
            self.peak_bytes = max(self.peak_bytes, self._limits.memory_bytes or 0)
            return _over_memory(self._limits)
        return _over_pids(self._limits) if group.is_over_pids() else None

    def _check_tree(self) -> Breach | None:
        limits = self._limits
        use = process_use.look(limits.pids)
        if limits.pids is not None:
            _fence(use.pids, limits.pids + max(_LEAST_PIDS_SLACK, limits.pids // 8))
            if use.tasks > limits.pids:
                return _over_pids(limits)
        most = math.inf if limits.memory_bytes is None else limits.memory_bytes
        taken = self._memory_of(use, most)
        if taken is None:
            return None
        self.peak_bytes = max(self.peak_bytes, taken)
        # Twice in a row: between vfork(2) and exec a process counts twice.
        was_suspect, self._is_memory_suspect = self._is_memory_suspect, taken > most
        return _over_memory(limits) if was_suspect and self._is_memory_suspect else None

    def _memory_of(self, use: process_use.ProcessUse, most: float) -> int | None:
        """Return the bytes that the tree takes; None while they are still being counted."""
        for_files = process_use.kept_for_files(use.pids)
        taken = use.resident_bytes + use.page_table_bytes + for_files
        if taken <= most or len(use.pids) == 1:
            self._shared = None
            return taken
        if self._shared is None:
            self._shared = process_use.SharedOnce(use)
        if not self._shared.look(_SHARED_S, most):
            return None
        taken, self._shared = self._shared.bytes + for_files, None
        return taken

    def _check_folders(self) -> Breach | None:
        limits, found = self._limits, self._folders
        if limits.disk_bytes is not None and found.bytes > limits.disk_bytes:
            reason = f"held more than disk_gb = {limits.disk_bytes / GB:g}"
        elif limits.disk_files is not None and found.files > limits.disk_files:
            reason = f"had more files than disk_files = {limits.disk_files}"
        elif found.hidden:
            reason = f"hid a folder from its limit on disk space: {found.hidden}"
        else:
            return None
        return Breach(ended_by=EndedBy.DISK, reason=reason)


class Enforcer:
    """Makes the limits of one supervisor's runs."""

    def __init__(self) -> None:
        self._groups: dict[str, ControlGroups | None] = {}

    def begin(self, limits: Limits | None, mark: str) -> RunLimits:
        """Return the limits for the run with this mark."""
        if limits is None:
            return RunLimits(None)
        slot = mark.rpartition("/")[0]
        if slot not in self._groups:
            self._groups[slot] = _groups_for(slot)
        return RunLimits(limits, self._groups[slot])

    def bury(self, patience_s: float) -> None:
        """Remove what groups there still are, taking `patience_s` seconds at most."""
        for groups in self._groups.values():
            if groups:
                groups.bury(patience_s)


def _groups_for(slot: str) -> ControlGroups | None:
    try:
        return ControlGroups(find_place(), slot)
    except (NoControlGroups, OSError):
        return None


def _enforcement(limits: Limits | None, group: ControlGroup | None) -> Enforcement | None:
    if limits is None:
        return None
    return group.enforcement if group else Enforcement.WATCHDOG


def _make(groups: ControlGroups | None, limits: Limits) -> ControlGroup | None:
    try:
        return groups.make(limits) if groups else None
    except OSError:  # no room for another group, or it was taken from us
        return None


def enforcement() -> Enforcement:
    """Return how a run below this process would be limited, by really making a group."""
    return Enforcement.WATCHDOG if why_no_group() else find_place().enforcement


def why_no_group() -> str:
    """Return why there would be nothing but the watchdog; empty if a group can be made.

    None is made where this process and others would have to change groups for it.
    """
    try:
        place = find_place()
        if not place.must_split:
            _try_in(place)
    except (NoControlGroups, OSError) as error:
        return str(error)
    return ""


def _try_in(place: Place) -> None:
    groups = ControlGroups(place, f"probe-{os.getpid()}")
    groups.retire(groups.make(Limits(memory_bytes=GB, pids=64)))


def _lower(kind: int, value: int | None) -> None:
    if value is None:
        return
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _fence(pids: Sequence[int], most: int) -> None:
    """Let the kernel refuse more processes than `most`, between two looks, where it can.

    RLIMIT_NPROC counts all processes of a user within a user namespace. So it says something of a
    trial inside a namespace of its own alone; outside, it would count whatever else the user runs.
    Set from here, since what makes the namespace needs to fork outside of it. Children inherit it.
    """
    own = Path("/proc/self/ns/user").readlink()
    for pid in pids:
        with suppress(OSError):  # ended meanwhile, or not to be looked into by us
            if Path(f"/proc/{pid}/ns/user").readlink() != own:
                resource.prlimit(pid, resource.RLIMIT_NPROC, (most, most))


def _over_memory(limits: Limits) -> Breach:
    reason = f"used more than memory_gb = {(limits.memory_bytes or 0) / GB:g}"
    return Breach(ended_by=EndedBy.MEMORY, reason=reason)


def _over_pids(limits: Limits) -> Breach:
    reason = f"had more processes and threads than pids = {limits.pids}"
    return Breach(ended_by=EndedBy.PIDS, reason=reason)
