"""A private Ray for one study, started with `ray start --block` in a session of its own.

`--block` makes one process the owner of all others: when one of them dies, or it is terminated, it
ends the rest. So the study's Ray is exactly one process id, is ended without touching any other
Ray of this machine, and outlives whoever started it.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import psutil

from cluster.nodes.environment import allowed_environment
from cluster.nodes.ray_ports import RayPorts
from trainer.growing_log import anew

START_S = 60.0
GRACE_S = 0.6
"""How long Ray may take to end by itself. Its daemons that have anything to end take 0.5 s, those
that only watch the others take 1.8 s; with live actors it would take ten seconds."""
STOP_S = 3.0
"""How long the kernel may take to end what was killed."""
OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Little goes through Ray's object store; its least size is 75 MiB."""


_OVERDUE = "timed out during startup"
"""What Ray says when its raylet was not there in 30 s. That ends by itself where one of its agents,
which are in Python, takes more than 15 s to begin.
"""
_ERROR = re.compile(r"[\w.]*(Error|Exception): ")


class RayFailed(RuntimeError):
    """Ray does not start; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayProcess:
    """A Ray that was started for this study."""

    pid: int
    created: float
    """Creation time of the process: a pid alone may be somebody else's by now."""
    address: str
    place: str = ""
    """Where other machines reach it, or the head that it joined; empty: it is alone."""
    versions: str = ""
    """Of Incumbent and Ray, by whose code its actors live."""

    @property
    def identity(self) -> str:
        """What no other Ray of this machine was ever called."""
        return f"{self.pid}-{self.created:.2f}"

    def is_alive(self) -> bool:
        """Say whether it still runs."""
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return abs(process.create_time() - self.created) < 1.0 and not is_zombie
        except psutil.Error:
            return False


class PrivateRay:
    """Starts, finds and ends the study's own Ray."""

    def __init__(
        self, *, runtime: Path, directory: Path, empty: Path, listen: str = "", head: str = ""
    ) -> None:
        """Without `listen` and `head` it is reached from this machine alone.

        Args:
            runtime: Where sockets may be: a short path. It is there while Ray is.
            directory: Where its token, its log, the record of its process and its ports are.
            empty: An empty folder to run in.
            listen: Where other machines may join it, HOST:PORT.
            head: The Ray that it joins instead of beginning one: HOST:PORT, and which it is, behind
                a blank. With that one's token.
        """
        self._listen = listen
        self._head = head
        self._temporary = runtime / "ray"
        self._record = directory / "ray.json"
        self._token = directory / "ray.token"
        self._directory = directory
        self._log = directory / "ray.log"
        self._empty = empty
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def temporary(self) -> str:
        """Where Ray keeps its sockets, and by which it is told from others on this machine."""
        return os.fspath(self._temporary)

    @property
    def logs(self) -> Iterator[Path]:
        """What its processes write to; Ray itself lets each grow to 3 GB, a worker's without end.

        And whatever else lies beside them.
        """
        return self._temporary.glob("session_[0-9]*/logs/**/*")

    def environment(self) -> Mapping[str, str]:
        """Return the variables with which Ray's processes and its drivers start."""
        if not self._token.exists():
            descriptor = os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        # Ray then takes itself for a cluster of one machine, and binds 127.0.0.1 alone.
        alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        return {
            **allowed_environment(),
            **({} if self._listen or self._head else alone),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray reports even that it is not to report. This is nobody's port.
            "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:1/",
            # Ray would end our actors when the machine's memory runs out, whoever uses it: trials,
            # which have limits of their own, are none of its processes.
            "RAY_memory_monitor_refresh_ms": "0",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
            "AUTOSCALER_METRIC_PORT": "0",
            "DASHBOARD_METRIC_PORT": "0",
        }

    def find(self) -> RayProcess | None:
        """Return the Ray that runs already; None if there is none."""
        found = self._recorded()
        if found is None:
            return None
        return found if found.address and found.is_alive() else None

    def is_at(self, place: str) -> bool:
        """Say whether what was started for this study, or is left of it, may listen at `place`."""
        found = self._recorded()
        return found is not None and found.place == place and self.is_left

    @property
    def is_left(self) -> bool:
        """Say whether anything lives of the Ray that was started last."""
        found = self._recorded()
        return found is not None and bool(self._left_of(found))

    @property
    def is_unended(self) -> bool:
        """Say whether one was started and never stopped: it runs, or has died and left files."""
        return self._recorded() is not None

    def ensure(self) -> RayProcess:
        """Find the Ray that runs already, or start one.

        One that is reached in another way than it should be, or that lives by the code of another
        version, gives way.
        """
        found = self.find()
        is_fit = found and (found.place, found.versions) == (self._where, _versions())
        return found if found and is_fit else self.start()

    @property
    def _where(self) -> str:
        return self._listen or self._head

    def start(self) -> RayProcess:
        """Start Ray and wait until it can be joined; raises RayFailed."""
        self.stop()  # one that somebody was killed while starting
        address_file = self._temporary / "ray_current_cluster"
        shutil.rmtree(self._temporary, ignore_errors=True)  # sessions that have ended, with logs
        self._temporary.parent.mkdir(mode=0o700, exist_ok=True)
        with anew(self._log) as log:
            process = self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment()),
                cwd=self._empty,
                start_new_session=True,
            )
        created = psutil.Process(process.pid).create_time()
        begun = RayProcess(
            pid=process.pid,
            created=created,
            address="",
            place=self._where,
            versions=_versions(),
        )
        self._note(begun)
        deadline = time.monotonic() + START_S
        while not (address_file.exists() and address_file.read_text().strip()):
            if process.poll() is not None:
                raise RayFailed(f"Ray does not start: {self._last_words()}")
            if time.monotonic() > deadline:
                process.terminate()
                raise RayFailed(f"Ray did not start in {START_S:g} s: see {self._log}")
            time.sleep(0.05)
        started = replace(begun, address=address_file.read_text().strip())
        self._note(started)
        return started

    def _note(self, ray: RayProcess) -> None:
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(ray)), "utf-8")
        fresh.replace(self._record)  # whoever looks for a Ray to end must not find half a record

    def _recorded(self) -> RayProcess | None:
        try:
            return RayProcess(**json.loads(self._record.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _command(self) -> list[str]:
        program = "from ray.scripts.scripts import main; main()"
        return [
            *(sys.executable, "-I", "-c", program, "start", "--block", *self._place()),
            "--num-cpus=0",  # else Ray starts an idle Python per core
            "--disable-usage-stats",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--temp-dir={self._temporary}",
        ]

    def _place(self) -> list[str]:
        ports = RayPorts.kept_in(self._directory) if self._where else None
        fixed = ports.options() if ports else []
        if self._head:
            return [f"--address={self._head.partition(' ')[0]}", *fixed]
        host, _, port = self._listen.rpartition(":")
        where = [f"--node-ip-address={host}", f"--port={port}", *fixed] if host else ["--port=0"]
        # The monitor scales clusters, which this is not to be, and shows numbers to whoever asks.
        return ["--head", *where, "--include-dashboard=false", "--no-monitor"]

    def stop(self) -> None:
        """End the study's Ray, if it runs or is about to."""
        found = self._recorded()
        if found is not None:  # also one that was killed: not all that it started ends by itself
            self._end(found)
        if self._process is not None:  # it is our child: let it be reaped
            self._process.wait(STOP_S)

    def _end(self, found: RayProcess) -> None:
        is_known = found.is_alive()
        members = _session(found.pid)
        if is_known:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(found.pid).send_signal(signal.SIGTERM)
            wait_until_ended(members, GRACE_S)
        alive = self._left_of(found, is_known=is_known)  # with what was started since
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until_ended(alive, STOP_S)
        self._record.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        with suppress(OSError):  # the server's socket may live there, too
            self._temporary.parent.rmdir()

    def _left_of(self, found: RayProcess, *, is_known: bool = False) -> list[psutil.Process]:
        """Return what lives of a Ray; if it has ended, its number may be somebody else's."""
        is_known = is_known or found.is_alive()
        return [each for each in _session(found.pid) if is_known or _runs_in(self._empty, each)]

    def _last_words(self) -> str:
        """Return the error that Ray ended with; without one, the end of what it printed."""
        lines = [line.strip() for line in self._log.read_text("utf-8", "replace").splitlines()]
        errors = [line for line in lines if _ERROR.match(line)]
        if errors and _OVERDUE in errors[-1]:
            return f"it was not up within 30 s: this machine may be too busy ({self._log})"
        return errors[-1] if errors else " / ".join(line for line in lines if line)[-600:]


def _versions() -> str:
    return f"incumbent {version('incumbent')}, ray {version('ray')}"


def wait_until_ended(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until processes have ended, at most so long; return those that have not.

    One that waits to be reaped has ended: in a container there may be nobody who reaps.
    """
    deadline = time.monotonic() + timeout_s
    while (alive := [each for each in processes if _lives(each)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _session(pid: int) -> list[psutil.Process]:
    """Return all processes in the session that `pid` leads."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid:
                members.append(process)
        except OSError:
            continue
    return members


def _runs_in(folder: Path, process: psutil.Process) -> bool:
    try:
        return folder.samefile(process.cwd())
    except (OSError, psutil.Error):
        return False
