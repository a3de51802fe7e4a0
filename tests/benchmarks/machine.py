"""What the figures depend on beside the code: the machine, its load, and memory as Linux counts it.

Reads /proc; runs on Linux alone.
"""

import os
import platform
import re
from pathlib import Path


def describe() -> str:
    """Return the machine in one line."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def proportional_mb(pid: int) -> float:
    """Return a process's memory in MiB, what it shares divided among those that share it (PSS).

    0 for a process that is gone or is somebody else's.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def private_mb(pid: int) -> float:
    """Return the memory in MiB that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", text, re.MULTILINE)
    return sum(map(int, found)) / 1024
