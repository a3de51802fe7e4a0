"""The controller's end of the fleet process. See cluster.fleet for the protocol.

Does not import Ray: what takes Ray's driver down cannot take the controller down.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from cluster.codec import to_json
from cluster.fleet_settings import FleetSettings
from cluster.ports import FleetProblem
from cluster.ray_cluster import PrivateRay

PROGRAM = "from cluster.fleet import main; raise SystemExit(main())"
SHUTDOWN_S = 60.0
RESTART_S = 1.0
MOST_RESTARTS = 5
"""Restarts in a row, each within `STEADY_S` of the last, after which the study gives up."""
STEADY_S = 60.0


class FleetProcess:
    """See cluster.ports.Fleet."""

    def __init__(self, settings: FleetSettings, *, log: Path) -> None:
        self._settings = settings
        self._file = Path(settings.directory) / "fleet.json"
        self._log = log
        self._ray = PrivateRay(
            runtime=Path(settings.runtime),
            directory=Path(settings.directory),
            empty=Path(settings.empty),
        )
        self._process: subprocess.Popen[str] | None = None
        self._reports: SimpleQueue[dict[str, str]] = SimpleQueue()
        self._restarts = 0
        self._started = 0.0
        self._last_words = ""

    def start(self) -> None:
        """See Fleet."""
        self._file.write_bytes(to_json(self._settings))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", PROGRAM, str(self._file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(self._ray.environment()),
                cwd=self._settings.empty,
                text=True,
                # Ctrl-C in the terminal is for the command line, not for us.
                start_new_session=True,
            )
        self._started = time.monotonic()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def _listen(self, reports: IO[str]) -> None:
        for line in reports:
            try:
                self._reports.put(json.loads(line))
            except ValueError:
                continue  # something that Ray printed

    def check(self) -> Sequence[FleetProblem]:
        """See Fleet."""
        problems = list(self._news())
        if self._process is not None and self._process.poll() is not None:
            problems.append(self._restart())
        return problems

    def _news(self) -> list[FleetProblem]:
        found: list[FleetProblem] = []
        while True:
            try:
                report = self._reports.get_nowait()
            except Empty:
                return found
            kind, text = report.get("kind", ""), report.get("text", "")
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"{kind}: {text}\n")
            if kind in {"problem", "fatal"}:
                self._last_words = text
                found.append(FleetProblem(text=text, is_fatal=kind == "fatal"))

    def _restart(self) -> FleetProblem:
        if time.monotonic() - self._started > STEADY_S:
            self._restarts = 0
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            text = f"Ray keeps dying ({self._last_words or 'see the log'}): {self._log}"
            return FleetProblem(text=text, is_fatal=True)
        time.sleep(RESTART_S)
        self.start()
        return FleetProblem(text=f"the fleet ended ({self._last_words}); it was started again")

    def shutdown(self) -> None:
        """See Fleet."""
        process = self._process
        if process is not None and process.poll() is None:
            try:
                if process.stdin is not None:
                    process.stdin.write("shutdown\n")
                    process.stdin.close()
                process.wait(timeout=SHUTDOWN_S)
            except (subprocess.TimeoutExpired, OSError):
                process.kill()
                process.wait()
        self._process = None
        # Whatever the fleet did not get to: a Ray without a driver is still ours to end.
        if not self._settings.address:
            self._ray.stop()

    def detach(self) -> None:
        """See Fleet."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
