"""Machines on one host: what a study meets of other computers, made of the kernel's namespaces.

Each has its own network, processes, host name, shared memory and disk, at `ROOT`. They hang on a
switch that is a namespace, too, so that the host itself has no link, address or mount of theirs,
and all that they are ends with the processes that hold them: when a `Rack` is closed, and when
whoever made it is killed.

    switch     a network with a bridge, 10.77.0.254
    anchor     of each machine: its network and its disk, which outlive a loss of power
    init       of each machine: the first process of what runs on it, while it is on
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path("/mnt")
"""Where every machine has its disk; what the host has there is out of its sight."""
PROGRAM = Path(sys.executable).with_name("incumbent")
PREFIX = "10.77.0."
_TOOLS = ("ip", "mount", "nsenter", "setpriv", "unshare")
_PATIENCE_S = 10.0
_DISK_MB = 4000
"""Most of which is never used: workers want a gigabyte free."""
_INIT = """
import signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans need no more than that
socket.sethostname(sys.argv[1])
while True:
    signal.pause()
"""


def obstacle() -> str:
    """Say why no machines can be made here; empty if they can."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"there is no {', '.join(missing)}"
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        return "only root may make machines, on Linux"
    spaces = ("--mount", "--net", "--pid", "--uts", "--fork")
    made = subprocess.run(["unshare", *spaces, "true"], capture_output=True, text=True, check=False)
    return made.stderr.strip() if made.returncode else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, as the machine that it runs on sees it."""

    pid: int
    parent: int
    session: int
    state: str
    line: str
    """Its command line, and for one without any its name in brackets."""
    about: bytes
    """That, with its variables and its folder: what tells whose it is."""


class Command:
    """Something that was started on a machine."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self._path = output

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._path.read_text("utf-8", "replace")

    def wait(self, seconds: float) -> int:
        """Return its exit code; raises subprocess.TimeoutExpired."""
        return self.process.wait(seconds)


@dataclass(kw_only=True)
class Machine:
    """One machine. What is run on it has its network, processes, name and disk, and no other's."""

    name: str
    address: str
    _outputs: Path
    _anchor: "subprocess.Popen[bytes]"
    _link: Callable[[str], None]
    _init: "subprocess.Popen[bytes] | None" = None
    _init_pid: int = 0
    _commands: list[Command] = field(default_factory=list)

    # --- power, link and disk --------------------------------------------------------------------

    def boot(self) -> None:
        """Turn it on; its disk is as it was left."""
        spaces = ("--pid", "--fork", "--kill-child", "--mount-proc", "--uts")
        init = (sys.executable, "-ISc", _INIT, self.name)
        inside = ("nsenter", f"--target={self._anchor.pid}", "--mount", "--net")
        booting = _hold([*inside, "unshare", *spaces, *init])
        self._init_pid = _only_child(booting.pid)
        _wait(lambda: self.run("hostname").stdout.strip() == self.name, f"{self.name} to boot")
        self._init = booting  # who waits for it to be on starts something at once

    def power_off(self) -> None:
        """Kill everything on it at once."""
        if self._init is not None:
            with suppress(ProcessLookupError):
                os.kill(self._init_pid, signal.SIGKILL)  # the kernel ends all others with it
            self._init.wait(_PATIENCE_S)
            self._init = None
        for command in self._commands:
            command.process.kill()  # it only waits for what it had started there
            command.process.wait(_PATIENCE_S)
        self._commands.clear()

    @property
    def is_on(self) -> bool:
        """Say whether it runs."""
        return self._init is not None

    def cut(self) -> None:
        """Take its network cable out."""
        self._link("down")

    def heal(self) -> None:
        """Put the cable back."""
        self._link("up")

    def pause(self) -> None:
        """Stop all its processes where they are."""
        self.signal(-1, "STOP")

    def resume(self) -> None:
        """Let them go on."""
        self.signal(-1, "CONT")
        for command in self._commands:  # the outer end stops with what it waits for
            command.process.send_signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """Leave no byte of its disk free, by making it as small as what it holds."""
        for spare_kb in (4, 64, 1024, 16384):  # what it holds may grow meanwhile
            disk = os.statvfs(self.outside("."))
            held_kb = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024
            if self._resize(f"{held_kb + spare_kb}k"):
                return
        raise OSError(f"the disk of {self.name} cannot be filled")

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        self._resize(f"{_DISK_MB}m")

    def _resize(self, size: str) -> bool:
        inside = ("nsenter", f"--target={self._anchor.pid}", "--mount")
        words = (*inside, "mount", "-o", f"remount,size={size}", str(ROOT))
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    # --- what runs on it -------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables of a user who logs in."""
        return {
            "HOME": str(ROOT / "home"),
            "TMPDIR": str(ROOT / "tmp"),
            "INCUMBENT_HOME": str(ROOT / "state"),
            "INCUMBENT_LOCK_DIR": str(ROOT / "locks"),
            "PATH": f"{PROGRAM.parent}{os.pathsep}{os.defpath}:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
        }

    def _inside(self, words: Sequence[str], folder: Path, extra: Mapping[str, str]) -> list[str]:
        variables = [f"{name}={value}" for name, value in (self.variables | dict(extra)).items()]
        enter = ("nsenter", f"--target={self._init_pid}", "--mount", "--net", "--pid", "--uts")
        step = ("sh", "-c", 'cd "$0" && exec "$@"', str(folder))
        return [*enter, "env", "-i", *variables, *step, *words]

    def start(
        self, *words: str, folder: Path = ROOT, variables: Mapping[str, str] | None = None
    ) -> Command:
        """Start a command on it and come back at once."""
        path = self._outputs / f"{self.name}-{len(list(self._outputs.iterdir()))}.out"
        with path.open("wb") as output:
            process = subprocess.Popen(
                self._inside(words, folder, variables or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._commands.append(Command(process, path))
        return self._commands[-1]

    def run(
        self,
        *words: str,
        folder: Path = ROOT,
        timeout_s: float = 120.0,
        variables: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on it, with what it prints."""
        return subprocess.run(
            self._inside(words, folder, variables or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def outside(self, path: str | Path) -> Path:
        """Return by which path the host reaches what is at `path` of its disk."""
        return _files_of(self._anchor.pid) / ROOT.relative_to("/") / path

    def processes(self) -> list[Process]:
        """Return all its processes but for the first."""
        found = []
        for folder in (_files_of(self._init_pid) / "proc").iterdir() if self.is_on else ():
            if folder.name.isdigit() and folder.name != "1":
                with suppress(OSError, IndexError):
                    found.append(_process(folder))
        return [process for process in found if process.state not in "ZX"]

    def find(self, *words: str) -> list[Process]:
        """Return its processes whose command lines hold all these words."""
        return [each for each in self.processes() if all(word in each.line for word in words)]

    def signal(self, pid: int, name: str = "KILL") -> None:
        """Send a signal to one of its processes; -1 is all."""
        self.run("sh", "-c", f"kill -{name} {pid}")


class Rack:
    """Machines beside one another; leaves nothing behind."""

    def __init__(self, outputs: Path) -> None:
        """`outputs` is a folder for what commands print."""
        outputs.mkdir(parents=True, exist_ok=True)
        self._outputs = outputs
        self._holders: list[subprocess.Popen[bytes]] = []
        self.machines: dict[str, Machine] = {}

    def __enter__(self) -> Self:
        """Set the switch up."""
        try:
            self._switch = self._keep(["unshare", "--net", "sleep", "infinity"])
            _in_network(self._switch.pid, "ip link add br0 type bridge")
            _in_network(self._switch.pid, f"ip address add {PREFIX}254/24 dev br0")
            _in_network(self._switch.pid, "ip link set br0 up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all that was made."""
        for machine in self.machines.values():
            machine.power_off()
        for holder in reversed(self._holders):
            holder.kill()
            holder.wait(_PATIENCE_S)

    def add(self, name: str) -> Machine:
        """Return a new machine, turned on, with an empty disk."""
        anchor = self._keep(["unshare", "--mount", "--net", "sleep", "infinity"])
        _furnish(anchor.pid)
        number = len(self.machines) + 1
        address = f"{PREFIX}{number}"
        port, switch = f"port{number}", self._switch.pid
        _in_network(switch, f"ip link add {port} type veth peer name eth0 netns {anchor.pid}")
        _in_network(switch, f"ip link set {port} master br0 up")
        for line in (
            "ip link set lo up",
            f"ip address add {address}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {PREFIX}254",
        ):
            _in_network(anchor.pid, line)
        machine = Machine(
            name=name,
            address=address,
            _outputs=self._outputs,
            _anchor=anchor,
            _link=lambda to: _in_network(switch, f"ip link set {port} {to}"),
        )
        self.machines[name] = machine
        machine.boot()
        return machine

    def serve(self, program: str, output: Path) -> None:
        """Run a Python program on the switch, at 10.77.0.254, for as long as the rack is there."""
        inside = ("nsenter", f"--target={self._switch.pid}", "--net", sys.executable, "-c", program)
        with output.open("wb") as sink:
            self._holders.append(_hold(inside, stdout=sink.fileno()))

    def _keep(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        self._holders.append(_hold(words))
        holder = self._holders[-1].pid
        ours = os.readlink("/proc/self/ns/net")  # noqa: PTH115 - the link's target is no path
        _wait(lambda: os.readlink(f"/proc/{holder}/ns/net") != ours, "a namespace")  # noqa: PTH115
        _wait(lambda: Path(f"/proc/{holder}/comm").read_text().strip() == "sleep", "a namespace")
        return self._holders[-1]


_FURNITURE = f"""
mount -t tmpfs -o size={_DISK_MB}m,mode=755 disk {ROOT}
mount -t tmpfs -o size=256m,mode=1777 memory /dev/shm
# Groups of one machine would stand among those of all others.
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null || true
cd {ROOT}
mkdir -p home tmp state locks
chmod 1777 tmp
# There is nobody to ask for names, and nobody is waited for.
echo 127.0.0.1 localhost > hosts
mount --bind hosts /etc/hosts
touch resolv.conf
mount --bind resolv.conf /etc/resolv.conf
"""


def _furnish(anchor: int) -> None:
    """Give a machine a disk and shared memory of its own, and no control groups."""
    inside = ("nsenter", f"--target={anchor}", "--mount")
    subprocess.run([*inside, "sh", "-ec", _FURNITURE], check=True)


def _hold(words: Sequence[str], *, stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """Start a process that is killed when this one, or the thread that calls, ends."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.DEVNULL,  # of how it was killed
        start_new_session=True,
    )


def _in_network(holder: int, line: str) -> None:
    subprocess.run(["nsenter", f"--target={holder}", "--net", *line.split()], check=True)


def _only_child(pid: int) -> int:
    children: list[str] = []

    def is_there() -> bool:
        children[:] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return bool(children)

    _wait(is_there, "the first process")
    return int(children[0])


def _files_of(pid: int) -> Path:
    """Return by which path the host sees the files that a process sees."""
    return Path("/proc", str(pid), "root")


def _process(folder: Path) -> Process:
    words = (folder / "cmdline").read_bytes()
    name, _, rest = (folder / "stat").read_text().rpartition(")")
    state, parent, _, session = rest.split()[:4]
    line = " ".join(os.fsdecode(word) for word in words.split(b"\0") if word)
    about = words + (folder / "environ").read_bytes() + os.fsencode((folder / "cwd").readlink())
    return Process(
        pid=int(folder.name),
        parent=int(parent),
        session=int(session),
        state=state,
        line=line or f"[{name.partition('(')[2]}]",
        about=about,
    )


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(0.01)
