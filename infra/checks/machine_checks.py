"""The checks of `incumbent doctor`: what each found on this machine, and its cure.

Knows what the other parts need of a machine, and asks them where they can tell by themselves: git's
version, a server that starts, a lock that holds. Imports neither Ray nor torch, and leaves nothing
behind but an empty lock. A check may raise or hang: `doctor` sees to that.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import psutil

from cluster.config import ClusterConfig
from cluster.nodes.environment import allowed_environment
from cluster.nodes.ray_cluster import OBJECT_STORE_BYTES
from cluster.ours import PACKAGES
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome, StudyProblem, state_directory, studies
from infra.local.settings import default_cpu_slots
from trainer.config import TrialConfig
from trainer.git_command import GitTooOld, require_git
from trainer.gpu import Gpu, NvmlGpus, is_of_study
from trainer.limit_defaults import limits_for, machine_memory
from trainer.limits import enforcement, why_no_group
from trainer.run_records import Enforcement
from trainer.sandbox.choose import choose
from trainer.sandbox.diagnosis import WITHOUT, Diagnosis
from trainer.slot_lock import SlotLock, lock_folder, try_hold
from trainer.trial_user import TRIAL_UIDS

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 1e9
LITTLE_DISK_BYTES = 10e9
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray looks; nothing is written
MOST_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""From sys/un.h, less the final zero."""
RAY_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket that Ray makes below a study's runtime directory."""


class Level(StrEnum):
    """How well something is."""

    OK = "ok"
    WARNING = "warning"  # it works, with a drawback that one should know of
    FAILURE = "failure"  # studies do not run


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    level: Level
    found: str
    """One line, or one for each of several things."""
    cure: str = ""


def system() -> Finding:
    """Look at the operating system: trials are ended by means that only Linux has."""
    name = f"{platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() == "Linux":
        return Finding(Level.OK, name)
    return Finding(Level.FAILURE, name, "run Incumbent on Linux (WSL 2 and containers will do)")


def python() -> Finding:
    """Look at the interpreter."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= LEAST_PYTHON:
        return Finding(Level.OK, found)
    least = ".".join(map(str, LEAST_PYTHON))
    return Finding(Level.FAILURE, found, f"install Incumbent with Python {least} or newer")


def git() -> Finding:
    """Look for a git that merges without a checkout."""
    try:
        return Finding(Level.OK, require_git())
    except GitTooOld as error:
        problem, _, cure = str(error).partition(". ")
        return Finding(Level.FAILURE, problem, cure)


def packages() -> Finding:
    """See whether `eval`, `trainer` and so on are ours, in a process as a controller is one."""
    program = "from cluster.ours import assert_ours; assert_ours()"
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-I", "-c", program],
            cwd=empty,
            env=allowed_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    providers = packages_distributions()
    rivals = sorted({name for p in PACKAGES for name in providers.get(p, ())} - {"incumbent"})
    cure = "give Incumbent an environment of its own"
    if rivals:
        cure = f"{sys.executable} -m pip uninstall {' '.join(rivals)}; or {cure}"
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2].partition(": ")[2]
        return Finding(Level.FAILURE, reason or f"exit code {done.returncode}", cure)
    if rivals:
        # Installed last, ours lie over theirs; an update of theirs would turn that round.
        return Finding(Level.WARNING, f"also provided by {', '.join(rivals)}", cure)
    return Finding(Level.OK, f"{', '.join(PACKAGES)} are Incumbent's")


def embedded_server() -> Finding:
    """Start a server in a temporary home, and stop it."""
    with tempfile.TemporaryDirectory(prefix="incumbent-") as folder:
        home = StudyHome(name="doctor", repository=Path(folder), directory=Path(folder, "study"))
        server = EmbeddedServer(home)
        client = server.ensure()
        try:
            name = client.info("server").get("valkey_version", "of unknown version")
        finally:
            server.release(client)
        if server.socket.exists():
            return Finding(Level.FAILURE, f"Valkey {name} starts, and does not stop")
    return Finding(Level.OK, f"Valkey {name} starts and stops")


def ray() -> Finding:
    """Look for Ray, without importing it: that takes a second."""
    return _library("ray", Level.FAILURE, needed_for="running trials")


def torch() -> Finding:
    """Look for torch; an environment of the repository's own may have another."""
    return _library("torch", Level.WARNING, needed_for='[trial] environment = "current"')


def _library(name: str, level: Level, *, needed_for: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        found = ""
    if found and find_spec(name) is not None:
        return Finding(Level.OK, found)
    cure = f"{sys.executable} -m pip install {name}"
    return Finding(level, f"not installed; needed for {needed_for}", cure)


def uv() -> Finding:
    """Look for uv where `trainer.environment` looks for it."""
    ours = Path(sys.executable).parent
    found = shutil.which("uv") or shutil.which("uv", path=str(ours))
    if found:
        return Finding(Level.OK, found)
    cure = f"{sys.executable} -m pip install uv"
    return Finding(Level.WARNING, 'not found; needed for [trial] environment = "uv"', cure)


def gpus() -> Finding:
    """Look at the cards, and at who else is on them."""
    cards = NvmlGpus().look()
    known = Path("/proc/driver/nvidia/gpus")
    if not cards and known.is_dir() and any(known.iterdir()):
        return Finding(
            Level.WARNING,
            "the kernel has an NVIDIA card, which cannot be used from here",
            "see what nvidia-smi says; in a container: docker run --gpus all",
        )
    if not cards:
        slots = default_cpu_slots()
        return Finding(Level.OK, f"no GPU: trials run on {slots} CPU slots")
    return judge_cards(cards)


def judge_cards(cards: Sequence[Gpu]) -> Finding:
    """List cards, of which there is at least one, and say which are too busy to take trials."""
    own = [home.id for home in studies()]
    most_mb = ClusterConfig().gpu_busy_mb
    strangers = [card.strangers_mb(lambda pid: _is_of(pid, own)) for card in cards]
    found = "\n".join(map(_card, cards, strangers))
    busy = [str(card.index) for card, mb in zip(cards, strangers, strict=True) if mb > most_mb]
    if not busy:
        return Finding(Level.OK, found)
    return Finding(
        Level.WARNING,
        f"{found}\nbusy, and therefore without trials: {', '.join(busy)}",
        f"end what nvidia-smi shows, or raise [cluster] gpu_busy_mb from {most_mb:.0f}",
    )


def _is_of(pid: int, own: list[str]) -> bool:
    return any(is_of_study(pid, study) for study in own)


def _card(card: Gpu, strangers_mb: float) -> str:
    used = f"{card.used_mb:.0f} of {card.total_mb:.0f} MiB used"
    others = f", {strangers_mb:.0f} by strangers" if strangers_mb >= 1 else ""
    return f"{card.index}: {card.name}, {used}{others}"


def cores_and_memory() -> Finding:
    """Count what trials on CPU slots share."""
    memory = psutil.virtual_memory()
    return Finding(
        Level.OK,
        f"{os.cpu_count()} cores, {_size(memory.total)} of memory, {_size(memory.available)} free",
    )


def state() -> Finding:
    """See whether studies can be kept where they are to be: files, and locks on them."""
    path = state_directory()
    cure = "export INCUMBENT_HOME=DIRECTORY, one on a local disk that you may write to"
    try:
        with tempfile.TemporaryFile(dir=_existing(path)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Finding(Level.FAILURE, f"{path}: {error.strerror}", cure)
    return Finding(Level.OK, f"{path} can be written to")


def disk() -> Finding:
    """Measure what is left for worktrees, logs and environments."""
    free = shutil.disk_usage(_existing(state_directory())).free
    level = Level.WARNING if free < LITTLE_DISK_BYTES else Level.OK
    level = Level.FAILURE if free < LEAST_DISK_BYTES else level
    cure = "" if level is Level.OK else "free some, or export INCUMBENT_HOME=DIRECTORY, on another"
    return Finding(level, f"{_size(free)} free for studies", cure)


def shared_memory() -> Finding:
    """Measure where Ray keeps its object store: 64 MB in a container, unless it is told."""
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    found = f"{_size(free)} free in {SHARED_MEMORY}"
    if free >= OBJECT_STORE_BYTES:
        return Finding(Level.OK, found)
    return Finding(
        Level.WARNING,
        f"{found}; Ray wants {_size(OBJECT_STORE_BYTES)}, and is slower without",
        f"docker run --shm-size=1g; without docker: sudo mount -o remount,size=1g {SHARED_MEMORY}",
    )


def sockets() -> Finding:
    """See whether there is a private directory with a path that is short enough for sockets."""
    cure = "export TMPDIR=/tmp"
    with tempfile.TemporaryDirectory(prefix="incumbent-") as folder:
        home = StudyHome(name="doctor", repository=Path(folder), directory=Path(folder, "study"))
        try:
            runtime = home.runtime()
        except StudyProblem as error:
            problem, _, cure = str(error).partition(": ")
            return Finding(Level.FAILURE, problem, cure)
    length = len(os.fsencode(runtime / RAY_SOCKET))
    found = f"sockets in {runtime.parent}, their paths up to {length} of {MOST_SOCKET_BYTES} bytes"
    if length <= MOST_SOCKET_BYTES:
        return Finding(Level.OK, found)
    return Finding(Level.FAILURE, found, cure)


def locks() -> Finding:
    """Take and give back a lock as a worker does that books a device."""
    folder = lock_folder()
    try:
        held = try_hold("doctor", "doctor", exclusive=False)
    except OSError as error:
        cure = "export INCUMBENT_LOCK_DIR=DIRECTORY, the same for all studies of this machine"
        return Finding(Level.FAILURE, f"{folder}: {error.strerror}", cure)
    if isinstance(held, SlotLock):  # if not, another user's doctor holds it, which works as well
        held.release()
    return Finding(Level.OK, f"{folder} keeps two studies off one device")


def sandbox() -> Finding:
    """Make a sandbox as trials have it, or say why none can be made."""
    found = choose()
    if isinstance(found, Diagnosis):
        return Finding(
            Level.FAILURE, f"none can be made: {found.found}", f"{found.cure}. {WITHOUT}"
        )
    users = f"users {TRIAL_UIDS[-1]} to {TRIAL_UIDS[0]}, one a slot, since you are root"
    who = "you" if found.uid is None else users
    filtered = f"system calls are filtered for {platform.machine()}"
    return Finding(Level.OK, f"{found.path}; trials run as {who}; {filtered}")


def limits() -> Finding:
    """Say how trials are kept within their memory and processes, and how much memory each gets."""
    slots = len(NvmlGpus().look()) or default_cpu_slots()
    found = limits_for(TrialConfig(command="-"), machine_bytes=machine_memory(), slots=slots)
    share = f"{_size(found.memory_bytes or 0)} of memory for each trial of {slots} slots"
    how = enforcement()
    if how is not Enforcement.WATCHDOG:
        return Finding(Level.OK, f"exact, by {how}; {share}")
    cure = "set [trial] memory_gb with room to spare"
    if Path("/run/systemd/system").is_dir():
        cure = "systemd-run --user --scope --property=Delegate=yes incumbent run"
    words = f"best effort, by a watchdog ({why_no_group()}); {share}"
    return Finding(Level.WARNING, words, cure)


def _existing(path: Path) -> Path:
    """Return the nearest folder at or above `path` that exists."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


CHECKS: Mapping[str, Callable[[], Finding]] = {
    "system": system,
    "Python": python,
    "git": git,
    "packages": packages,
    "Ray": ray,
    "torch": torch,
    "uv": uv,
    "GPUs": gpus,
    "cores and memory": cores_and_memory,
    "state directory": state,
    "disk": disk,
    "shared memory": shared_memory,
    "runtime directory": sockets,
    "lock directory": locks,
    "sandbox": sandbox,
    "limits of a trial": limits,
}
"""All that can be asked at the same time, by name."""
