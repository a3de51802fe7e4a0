"""A worker's hold on its trial supervisor: start a run, watch it, cancel it.

Knows how the supervisor process is started and what to do when it vanishes. Does not know what it
does with a run: see trainer/supervisor.py. Uses no threads; one thread at a time may use it.
"""

import socket
import subprocess
import sys
import time
from contextlib import suppress

from trainer.own_python import FIND_OURS, variables
from trainer.process_tree import sweep_run
from trainer.run_records import (
    ArmRequest,
    CancelRequest,
    EndedBy,
    Message,
    MessageReader,
    RunProgress,
    RunReport,
    RunRequest,
    encode,
)

_BOOT = f"{FIND_OURS}from trainer.supervisor import main; main()"
_CLOSE_S = 15.0
"""More than the supervisor's own patience with processes that do not die."""
_LATE_S = 60.0
"""How long after its time limit and grace a run's report may come, before nobody waits for it."""


class Supervisor:
    """A supervisor process, started when it is first needed and again if it was lost."""

    def __init__(self, *, python: str = sys.executable, late_s: float = _LATE_S) -> None:
        self._python = python
        self._link: socket.socket | None = None
        self._reader = MessageReader()
        self._request: RunRequest | None = None
        self._armed: RunRequest | None = None
        self._late_s = late_s
        self._started_at = self._report_by = 0.0

    def arm(self, request: RunRequest) -> None:
        """Be ready for this run, instead of any other: with `warm`, have a process wait for it.

        It costs nothing if the run never comes, but memory. Raises RuntimeError if a run is under
        way or the supervisor process cannot be started.
        """
        if self._request is not None:
            raise RuntimeError(f"{self._request.mark} still runs")
        if request.warm is None:
            self.disarm()
            self._connect()
            return
        self._send_anew(ArmRequest(run=request))
        self._armed = request

    def disarm(self) -> None:
        """End what waits, if anything does."""
        if self._armed is not None:
            self._armed = None
            with suppress(ConnectionError):  # it ended with the supervisor
                self._send(CancelRequest())

    def start(self, request: RunRequest) -> None:
        """Begin a run, in the process that waits for it if one does.

        Poll until its report arrives before the next one is started or armed. A command that
        cannot be started is no error here: its report says so. Raises RuntimeError if a run is
        under way or the supervisor process cannot be started.
        """
        if self._request is not None:
            raise RuntimeError(f"{self._request.mark} still runs")
        self._send_anew(request)
        self._armed = None
        self._request = request
        self._started_at = time.monotonic()
        self._report_by = self._started_at + request.timeout_s + request.grace_s + self._late_s

    def poll(self, timeout_s: float) -> RunProgress | RunReport | None:
        """Return the report, or the latest progress, waiting at most `timeout_s` seconds for news.

        None means that there is nothing new. Raises RuntimeError if no run is under way.
        """
        if self._request is None or self._link is None:
            raise RuntimeError("no run is under way")
        until = time.monotonic() + timeout_s
        latest: RunProgress | None = None
        while latest is None:
            self._link.settimeout(max(0.0, until - time.monotonic()))
            try:
                data = self._link.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                is_late = time.monotonic() > self._report_by
                return self._report_loss(self._request, "gives no report") if is_late else None
            except ConnectionError:
                data = b""
            if not data:
                return self._report_loss(self._request, "vanished")
            for message in self._reader.feed(data):
                match message:
                    case RunReport():
                        self._request = None
                        return message
                    case RunProgress():
                        latest = message
        return latest

    def cancel(self) -> None:
        """Ask for the end of the run; its report follows. Without a run nothing happens."""
        if self._request is not None:
            with suppress(ConnectionError):  # the next poll finds out
                self._send(CancelRequest())

    def close(self) -> None:
        """Kill what runs and end the supervisor; returns when both are done. May be repeated."""
        request, self._request = self._request or self._armed, None
        self._armed = None
        if self._link is not None:
            self._link.settimeout(_CLOSE_S)
            with suppress(OSError):
                self._link.shutdown(socket.SHUT_WR)
                while self._link.recv(1 << 16):
                    pass
        self._disconnect()
        if request is not None:
            sweep_run(request.mark)

    def _send_anew(self, message: Message) -> None:
        try:
            self._send(message)
        except ConnectionError:  # it was killed while nothing ran
            self._disconnect()
            self._send(message)

    def _send(self, message: Message) -> None:
        link = self._connect()
        link.settimeout(None)
        link.sendall(encode(message))

    def _connect(self) -> socket.socket:
        if self._link is None:
            self._link = _launch(self._python)
            self._reader = MessageReader()
        return self._link

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _report_loss(self, request: RunRequest, words: str) -> RunReport:
        self._request = None
        self._disconnect()  # should it come to itself, it takes this for the order to leave
        return RunReport(
            ended_by=EndedBy.SUPERVISOR_LOST,
            problem=f"the trial supervisor {words}",
            wall_s=time.monotonic() - self._started_at,
            leftover_processes=sweep_run(request.mark),
        )


def _launch(python: str) -> socket.socket:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            # A session of its own is out of reach of what kills the worker's process group; the
            # double fork (in `main`) is out of reach of what kills the worker's children.
            started = subprocess.run(
                [python, "-I", "-S", "-c", _BOOT, str(theirs.fileno())],
                cwd="/",
                env=variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                check=False,
            )
    except OSError as error:
        ours.close()
        raise RuntimeError(f"the trial supervisor cannot be started: {error}") from error
    if started.returncode != 0:
        ours.close()
        raise RuntimeError(f"the trial supervisor ended at once, with code {started.returncode}")
    return ours
