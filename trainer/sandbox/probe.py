"""The facts of this machine that tell why no sandbox can be made. Reads files, starts nothing."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.sandbox.diagnosis import Facts
from trainer.sandbox.failed import Failed
from trainer.sandbox.seccomp import MACHINES
from trainer.trial_user import TRIAL_UID

_SYS_ADMIN = 1 << 21  # linux/capability.h


def probe(attempts: Sequence[Failed], *, environ: Mapping[str, str] = os.environ) -> Facts:
    """Look at this machine, on which bwraps failed as `attempts` say."""
    uname = os.uname()
    status = _read("/proc/self/status")
    return Facts(
        system=uname.sysname,
        machine=uname.machine,
        release=uname.release,
        has_filter=uname.machine in MACHINES,
        is_root=os.geteuid() == 0,
        may_mount=bool(int(_field(status, "CapEff") or "0", 16) & _SYS_ADMIN),
        has_trial_user=is_mapped(TRIAL_UID, _read("/proc/self/uid_map")),
        has_user_namespaces=Path("/proc/self/ns/user").exists(),
        most_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        unprivileged_allowed=_number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restricts=_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        is_filtered=_field(status, "Seccomp") == "2",
        container=_container(environ),
        attempts=attempts,
    )


def is_mapped(uid: int, uid_map: str) -> bool:
    """Say whether a user number exists, by /proc/self/uid_map: first inside, outside, how many."""
    ranges = [line.split() for line in uid_map.splitlines()]
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in ranges)


def _container(environ: Mapping[str, str]) -> str:
    signs = {
        "RunPod": "RUNPOD_POD_ID" in environ,
        "Kubernetes": "KUBERNETES_SERVICE_HOST" in environ,
        "Docker": Path("/.dockerenv").exists(),
        "Podman": Path("/run/.containerenv").exists(),
        "a container": "container" in environ,
    }
    return next((name for name, is_so in signs.items() if is_so), "")


def _field(status: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)$", status, re.MULTILINE)
    return found[1] if found else ""


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
