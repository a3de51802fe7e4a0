"""The graphics cards of this machine, as NVIDIA's management library (NVML) sees them.

Knows names, UUIDs and memory, and which of it strangers hold. Does not know slots or studies. The
only module that imports pynvml. A machine without cards or driver simply has none: nothing raises.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pynvml

from trainer.process_tree import MARK_VARIABLE

_MIB = 1024 * 1024
_OF_DRIVER = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/dxg")
"""What programs of all cards open; the last is the one way to any card under WSL 2."""
_CAPABILITIES = Path("/proc/driver/nvidia/capabilities")
_DEVICE_FILE_MINOR = re.compile(r"^DeviceFileMinor:\s*(\d+)$", re.MULTILINE)
_FAILURES = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError)
"""The second is raised for a call that the installed driver is too old for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """Memory that one process holds on one card."""

    pid: int
    used_mb: float
    """MiB; 0 where the driver does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One card, as it was when it was looked at."""

    uuid: str
    """"GPU-..."; what CUDA_VISIBLE_DEVICES takes."""
    index: int
    """Position in PCI bus order; CUDA may number differently."""
    name: str
    total_mb: float
    used_mb: float
    """MiB in use by anybody."""
    minor: int | None = None
    """The K of its device node, /dev/nvidiaK; None where there is none (WSL)."""
    processes: Sequence[GpuProcess] = ()
    """Those that the driver names: none in most containers."""

    def strangers_mb(self, is_ours: Callable[[int], bool]) -> float:
        """Return the MiB that are in use but not by processes for which `is_ours(pid)` holds.

        What nobody can be named for counts as strangers': in a container, where the driver names no
        processes, that is all of it, so look before trials of one's own run there.
        """
        ours = sum(process.used_mb for process in self.processes if is_ours(process.pid))
        return max(0.0, self.used_mb - ours)


class Gpus(Protocol):
    """Where cards are looked up."""

    def look(self) -> tuple[Gpu, ...]:
        """Return the cards as they are now, in order of their index; none without a driver."""
        ...


class NvmlGpus:
    """The cards that the driver shows."""

    def look(self) -> tuple[Gpu, ...]:
        """Return the cards as they are now, in order of their index; none without a driver.

        A card that fails while it is looked at ("GPU is lost") is left out.
        """
        found: list[Gpu] = []
        with _nvml() as count:
            for index in range(count):
                try:
                    found.append(_gpu(index))
                except _FAILURES:
                    continue
        return tuple(found)


def device_class(name: str, gpus: float) -> str:
    """Return the class within which scores compare: the card's name and how much of it, or "cpu".

    >>> device_class("NVIDIA H200", 0.5)
    'NVIDIA H200 x0.5'
    """
    if gpus == 0:
        return "cpu"
    return name if gpus == 1 else f"{name} x{gpus:g}"


def is_of_study(pid: int, study: str) -> bool:
    """Say whether a trial of `study` started process `pid`; False where that cannot be told.

    By the mark and not by descent: a trial's supervisor is detached from the worker, and a card may
    be shared with trials of other workers.
    """
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"\0{MARK_VARIABLE}={study}/".encode() in b"\0" + environment


def device_nodes(
    uuids: Sequence[str], gpus: Gpus, *, capabilities: Path = _CAPABILITIES
) -> tuple[str, ...]:
    """Return the device nodes by which a program reaches these cards and no other; none for none.

    Not all need exist. With those of a card come those of the instances that it is cut into (MIG),
    which `capabilities` tells: each is one more node, named by its number.
    """
    if not uuids:
        return ()
    nodes = list(_OF_DRIVER)
    for minor in (card.minor for card in gpus.look() if card.uuid in uuids):
        if minor is not None:
            nodes.append(f"/dev/nvidia{minor}")
            for access in sorted((capabilities / f"gpu{minor}" / "mig").glob("**/access")):
                nodes += [f"/dev/nvidia-caps/nvidia-cap{n}" for n in _minors(access)]
    return tuple(nodes)


def _minors(access: Path) -> list[str]:
    """Return the number in the line `DeviceFileMinor: 12`, if the driver tells it."""
    try:
        return _DEVICE_FILE_MINOR.findall(access.read_text())
    except OSError:
        return []


@contextmanager
def _nvml() -> Iterator[int]:
    """Hold the library open; yields how many cards there are, 0 without one."""
    try:
        pynvml.nvmlInit()
    except _FAILURES:  # no library, no driver, no permission
        yield 0
        return
    try:
        try:
            count = int(pynvml.nvmlDeviceGetCount())
        except _FAILURES:
            count = 0
        yield count
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    total, used = _memory(handle)
    return Gpu(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        total_mb=total / _MIB,
        used_mb=used / _MIB,
        minor=_minor(handle),
        processes=_processes(handle),
    )


def _minor(handle: object) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetMinorNumber(handle))
    except _FAILURES:
        return None


def _memory(handle: object) -> tuple[int, int]:
    """Return total and used bytes."""
    try:
        # Version 1 of this call counts what the driver reserves for itself as used.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except _FAILURES:  # a driver before 510
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return int(memory.total), int(memory.used)


def _processes(handle: object) -> tuple[GpuProcess, ...]:
    listed: dict[int, float] = {}
    for look in (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        try:
            for process in look(handle):
                # A process that computes and draws is in both lists, with the same number.
                listed[process.pid] = (process.usedGpuMemory or 0) / _MIB
        except _FAILURES:  # not supported on this card
            continue
    return tuple(GpuProcess(pid=pid, used_mb=used) for pid, used in listed.items())
