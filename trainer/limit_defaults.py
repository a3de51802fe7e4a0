"""From what a study asks for, or does not say, to the limits of a trial on this machine.

Knows the configuration and how much memory there is to share. Does not know how limits are held:
see trainer/limits.py.
"""

import re
from pathlib import Path

from trainer.config import TrialConfig
from trainer.control_group import memory_ceiling
from trainer.limits import GB
from trainer.run_records import Limits

_LEAST_RESERVE_BYTES = 2 * GB
_RESERVED_SHARE = 0.1


def limits_for(config: TrialConfig, *, machine_bytes: int, slots: int) -> Limits:
    """Return the limits of each trial where `slots` of them share `machine_bytes` of memory.

    Unless the study says how much memory a trial may take, it is an equal share of what a reserve
    of 10 %, 2 GB at least, leaves for the rest of the machine; of half a machine that is smaller
    than that. The folders are for the caller to fill in.
    """
    return Limits(
        memory_bytes=round(config.memory_gb * GB)
        if config.memory_gb is not None
        else _share(machine_bytes, slots),
        disk_bytes=round(config.disk_gb * GB),
        disk_files=config.disk_files,
        pids=config.pids,
        open_files=config.open_files,
    )


def _share(machine_bytes: int, slots: int) -> int:
    reserve = max(_LEAST_RESERVE_BYTES, int(_RESERVED_SHARE * machine_bytes))
    share = max(machine_bytes - reserve, machine_bytes // 2) // slots
    # In steps of 0.1 GB, so that people who read a reason recognise the number.
    return max(share // (GB // 10), 1) * (GB // 10)


def machine_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the bytes that this process and all others may use together.

    In a container or service that is what its control group allows, if that is less.
    """
    total = re.search(r"^MemTotal:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    found = int(total[1]) << 10 if total else 0
    ceiling = memory_ceiling()
    return min(found, ceiling) if ceiling is not None else found
