"""The controller's end of the fleet process. See cluster.nodes.fleet for the protocol.

Does not import Ray: what takes Ray's driver down cannot take the controller down.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from cluster.controller.ports import FleetProblem
from cluster.ledger.codec import from_json, to_json
from cluster.ledger.ledger import LedgerAway
from cluster.nodes.environment import allowed_environment, ray_access
from cluster.nodes.fleet_settings import FleetSettings, Joined
from cluster.nodes.ray_cluster import PrivateRay
from cluster.nodes.reach import answers

PROGRAM = "from cluster.nodes.fleet import main; raise SystemExit(main())"
END_PROGRAM = "from cluster.nodes.fleet import end; raise SystemExit(end())"
SHUTDOWN_S = 60.0
RESTART_S = 1.0
MOST_RESTARTS = 5
"""Restarts in a row, each within `STEADY_S` of the last, after which the study gives up."""
STEADY_S = 60.0


class ClusterAway(RuntimeError):
    """A Ray cluster that was joined does not answer; the message names it."""


class FleetProcess:
    """See cluster.controller.ports.Fleet.

    While its settings file exists, actors of the study may live in the Ray that it names.
    """

    def __init__(self, settings: FleetSettings, *, log: Path, tell: Callable[[str], None]) -> None:
        """`tell` is for people, of what the fleet is at; it may raise LedgerAway."""
        self._settings = settings
        self._file = settings_file(Path(settings.directory))
        self._log = log
        self._tell = tell
        self._phase = ""
        self._told: str | None = None
        self._ray = PrivateRay(
            runtime=Path(settings.runtime),
            directory=Path(settings.directory),
            empty=Path(settings.empty),
            listen=settings.listen,
        )
        self._process: subprocess.Popen[str] | None = None
        self._reports: SimpleQueue[dict[str, str]] = SimpleQueue()
        self._restarts = 0
        self._started = 0.0
        self._last_words = ""

    def start(self) -> None:
        """See Fleet."""
        self._launch()
        self._enter("starting Ray")

    def _launch(self) -> None:
        self._file.touch(mode=0o600)  # the URL of a server may hold a password
        self._file.write_bytes(to_json(self._settings))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", PROGRAM, str(self._file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                cwd=self._settings.empty,
                text=True,
                # Ctrl-C in the terminal is for the command line, not for us.
                start_new_session=True,
            )
        self._started, self._last_words = time.monotonic(), ""
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def _environment(self) -> dict[str, str]:
        return dict(_joining() if self._settings.address else self._ray.environment())

    def _listen(self, reports: IO[str]) -> None:
        with reports:
            for line in reports:
                try:
                    self._reports.put(json.loads(line))
                except ValueError:
                    continue  # something that Ray printed

    def check(self) -> Sequence[FleetProblem]:
        """See Fleet."""
        problems = list(self._news())
        if self._process is not None and self._process.poll() is not None:
            _close(self._process)
            problems.append(self._restart())
        self._enter(self._phase)  # once more, if the ledger was away
        return problems

    def _enter(self, phase: str) -> None:
        self._phase = phase
        if phase != self._told:
            with suppress(LedgerAway):
                self._tell(phase)
                self._told = phase

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
            if kind == "ready":
                self._enter("")
            elif kind in {"problem", "fatal"}:
                self._last_words = text
                found.append(FleetProblem(text=text, is_fatal=kind == "fatal"))

    def _restart(self) -> FleetProblem:
        if time.monotonic() - self._started > STEADY_S:
            self._restarts = 0
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            text = f"Ray keeps dying ({self._last_words or 'see the log'}): {self._log}"
            return FleetProblem(text=text, is_fatal=True)
        why = self._last_words or f"see {self._log}"
        self._enter(f"starting Ray again: {why}")
        time.sleep(RESTART_S)
        self._launch()
        return FleetProblem(text=f"the fleet ended ({why}); it was started again")

    def shutdown(self) -> None:
        """See Fleet."""
        process, self._process = self._process, None
        is_down = process is not None and _shut_down(process)
        # Whatever the fleet did not get to, or one that was killed left behind.
        if not self._settings.address:
            self._ray.stop()
        elif not is_down:
            with suppress(ClusterAway):  # the settings file stays, for whoever says `stop`
                end_in_joined(Path(self._settings.directory), log=self._log)
            return
        self._file.unlink(missing_ok=True)


def _close(process: subprocess.Popen[str]) -> None:
    """Tell a fleet, if it is there, that nobody will say anything to it any more."""
    if process.stdin is not None:
        process.stdin.close()


def settings_file(directory: Path) -> Path:
    """Return where a study's fleet is told its settings."""
    return directory / "fleet.json"


def end_in_joined(directory: Path, *, log: Path) -> bool:
    """End the actors that a study may have left in a Ray cluster it had joined.

    Returns whether there was such a cluster. Raises ClusterAway if it does not answer.
    """
    file = settings_file(directory)
    if not file.exists():
        return False
    joined = from_json(Joined, file.read_bytes())
    if not joined.address:
        return False
    if not (answers(joined.address) and _run_end(file, joined.empty, log)):
        raise ClusterAway(
            f"the Ray cluster at {joined.address} does not answer: workers of this study may be "
            f"left in it (why: {log}). Say `stop` again when it is back; if it is gone for good, "
            f"so are they: then delete {file}"
        )
    file.unlink(missing_ok=True)
    return True


def _run_end(file: Path, empty: str, log: Path) -> bool:
    """Run the program that ends a study's actors; say whether it could."""
    with log.open("ab") as sink:
        try:
            ended = subprocess.run(
                [sys.executable, "-I", "-c", END_PROGRAM, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=dict(_joining()),
                cwd=empty,
                start_new_session=True,
                timeout=SHUTDOWN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return ended.returncode == 0


def _joining() -> Mapping[str, str]:
    """Return the environment of a driver of a Ray cluster that is not ours."""
    return allowed_environment() | ray_access() | {"PYTHONSAFEPATH": "1"}


def _shut_down(process: subprocess.Popen[str]) -> bool:
    """Tell the fleet to end everything; say whether it has."""
    try:
        if process.stdin is not None and process.poll() is None:
            process.stdin.write("shutdown\n")
        _close(process)
        return process.wait(timeout=SHUTDOWN_S) == 0
    except (subprocess.TimeoutExpired, OSError):
        process.kill()
        process.wait()
        return False
