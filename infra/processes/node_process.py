"""The node process: keeps a machine joined to a study, whatever dies meanwhile.

`python -I -c PROGRAM HEAD NODE SLOTS`, in a session of its own. It imports no Ray: it starts the
driver (cluster.nodes.node), which Ray may take down with it, starts it anew, and ends what there is
of Ray on this machine when the node leaves. SIGTERM asks to leave when what runs has finished, a
second one to leave at once.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from cluster.ledger.codec import to_json
from cluster.nodes.environment import allowed_environment
from cluster.nodes.node_settings import NodeSettings
from cluster.nodes.reach import answers
from cluster.ours import assert_ours
from infra.local.home import StudyProblem
from infra.local.node_home import NodeHome, NodeStatus, Standing, memberships
from infra.local.port_blocks import reserve
from trainer.growing_log import keep_short
from trainer.paths import WorkerPaths

PROGRAM = "from infra.processes.node_process import main; raise SystemExit(main())"
_DRIVER = "from cluster.nodes.node import main; raise SystemExit(main())"
_REFUSED, _AWAY = 2, 3
"""Exit codes of the driver: see cluster.nodes.node."""
FIRST_S = 20.0
"""How long a study that was never met may take to say what it is: a head may be starting."""
_NOT_MET = "`incumbent status` on the head says whether it runs: join again once it does"
LOOK_S = 0.2
AGAIN_S = 2.0
LONGEST_PAUSE_S = 15.0
_PATIENT = "finishing what runs (Ctrl-C again, or `leave --now`, gives it back)"
GONE_S = 30.0
"""How long nobody may answer at the head before a node that leaves waits for it no more: calls of
Ray's do not come back where a cable was cut."""
LEAVE_S = 20.0
"""How long the driver may take to end the workers when it is to leave at once."""


class NodeProcess:
    """Runs the driver again and again until the node leaves or is refused."""

    def __init__(self, home: NodeHome, *, node: str, slots: int) -> None:
        self._home = home
        self._node = node
        self._asked = 0
        """How often this process was asked to leave."""
        self._told = 0
        self._problem = ""
        """The last that the driver reported."""
        self._ending = ""
        """Why the driver ended, by its last word."""
        self._has_joined = False
        self._has_met = False
        """Whether a study was found at the address, if only once."""
        self._has_stopped = False
        """Whether the study was seen to stop, and nothing of it since."""
        self._last: tuple[Standing, str] | None = None
        self._settings = NodeSettings(
            head=home.head,
            node=node,
            id=home.identity(),
            directory=str(home.directory),
            runtime=str(home.runtime()),
            empty=str(home.empty),
            environments=str(home.environments),
            slots=slots,
        )
        self._ray = home.ray()

    def run(self) -> int:
        """Be a node until it leaves; return an exit code."""
        signal.signal(signal.SIGTERM, self._ask_to_leave)
        pause_s, failures = AGAIN_S, 0
        code, started = _AWAY, time.monotonic()
        while not self._asked:
            if not answers(self._home.head):
                self._await(f"nobody answers at {self._home.head}")
                self._wait(AGAIN_S)
                continue
            self._reserve_ports()
            if not self._has_stopped:
                self._stand(Standing.STARTING, "asking the study what it is")
            began = time.monotonic()
            code = self._drive()
            if code == _AWAY and not self._has_met and time.monotonic() - started > FIRST_S:
                code, self._ending = _REFUSED, f"{self._ending}; {_NOT_MET}"
            if code in {0, _REFUSED}:
                break
            failures = failures + 1 if time.monotonic() - began < LONGEST_PAUSE_S else 1
            # Its Ray may be of no use any more; but a head that is silent is no fault of that, and
            # what runs in it may run for as long as its leases last.
            if failures > 1 and code != _AWAY:
                self._ray.stop()
            self._await(self._ending or self._problem or f"the driver ended with status {code}")
            self._wait(min(pause_s * failures, LONGEST_PAUSE_S))
        self._ray.stop()
        is_refused = code == _REFUSED
        self._stand(Standing.REFUSED if is_refused else Standing.LEFT, self._ending)
        return 1 if is_refused else 0

    def _ask_to_leave(self, *_: object) -> None:
        self._asked += 1

    def _await(self, why: str) -> None:
        """Tell why the node is not joined; of a study that stopped, that it did, until it is up."""
        self._stand(Standing.WAITING, "the study has stopped" if self._has_stopped else why)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._asked and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def _reserve_ports(self) -> None:
        try:
            news = reserve(self._home.directory, self._ray)
        except StudyProblem as error:
            news = str(error)
        if news:
            self._report("ports", news)

    def _drive(self) -> int:
        """Run the driver to its end; return its exit code."""
        settings = replace(self._settings, others=left_memberships(self._home))
        self._home.settings.write_bytes(to_json(settings))
        with self._home.driver_log.open("ab") as log:
            driver = subprocess.Popen(
                [sys.executable, "-I", "-c", _DRIVER, str(self._home.settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(self._ray.environment()),
                cwd=self._home.empty,
                text=True,
                start_new_session=True,
            )
        self._told, self._has_joined, self._problem, self._ending = 0, False, "", ""
        reader = threading.Thread(target=self._listen, args=(driver.stdout,), daemon=True)
        reader.start()
        deadline, line = float("inf"), None
        while driver.poll() is None:
            if self._asked > self._told:
                self._told = self._asked
                line = line or _Line(self._home.head)
                is_patient = self._asked == 1 and self._has_joined
                self._stand(Standing.LEAVING, _PATIENT if is_patient else "leaving at once")
                _tell(driver, "leave" if is_patient else "now")
                deadline = deadline if is_patient else time.monotonic() + LEAVE_S
            if line is not None and line.silent_s() > GONE_S:
                self._ending = f"nobody answers at {self._home.head}"
                deadline = 0.0
            if time.monotonic() > deadline:
                driver.kill()
            time.sleep(LOOK_S)
        _hang_up(driver)
        reader.join(LEAVE_S)  # whoever else holds the pipe is not to hold this process up
        return driver.returncode

    def _listen(self, reports: IO[str]) -> None:
        with reports:
            for line in reports:
                try:
                    report = json.loads(line)
                    self._hear(str(report["kind"]), str(report["text"]))
                except (ValueError, KeyError, TypeError):
                    continue  # something that Ray printed

    def _hear(self, kind: str, text: str) -> None:
        self._has_met = self._has_met or kind in {"phase", "joined", "stopped"}
        if kind != "away":  # which a study that starts again is for a while
            self._has_stopped = kind == "stopped"
        match kind:
            case "phase":
                self._stand(Standing.LEAVING if self._asked else Standing.STARTING, text)
            case "joined":
                self._has_joined = True
                self._stand(Standing.LEAVING if self._asked else Standing.JOINED, text)
            case "leaving":
                self._stand(Standing.LEAVING, text)
            case "problem":
                self._problem = text
                self._report(kind, text)
            case _:
                self._ending = text
                if kind == "denied":
                    self._home.token.unlink(missing_ok=True)  # it would be taken again

    def _stand(self, standing: Standing, text: str) -> None:
        status = NodeStatus(
            head=self._home.head, node=self._node, pid=os.getpid(), standing=standing, text=text
        )
        with suppress(OSError):  # a full disk: how it is goes untold, that it works goes on
            self._home.write_status(status)
        if self._last != (standing, text):  # a head may be away for a night
            self._report(standing, text)
        self._last = standing, text

    def _report(self, kind: str, text: str) -> None:
        with suppress(OSError), self._home.reports.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "text": text}) + "\n")


class _Line:
    """The line to a head, tried every AGAIN_S at most."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._answered_at = time.monotonic()
        self._ask_at = 0.0

    def silent_s(self) -> float:
        """Return for how long nobody has answered."""
        if time.monotonic() >= self._ask_at:
            if answers(self._head):
                self._answered_at = time.monotonic()
            self._ask_at = time.monotonic() + AGAIN_S
        return time.monotonic() - self._answered_at


def _tell(driver: subprocess.Popen[str], word: str) -> None:
    if driver.stdin is not None:
        try:
            driver.stdin.write(word + "\n")
            driver.stdin.flush()
        except OSError:
            return  # it has ended


def _hang_up(driver: subprocess.Popen[str]) -> None:
    if driver.stdin is not None:
        with suppress(OSError):  # it never heard the last word
            driver.stdin.close()


def left_memberships(own: NodeHome) -> tuple[str, ...]:
    """Return the folders of this machine's other memberships of which nothing lives any more."""
    return tuple(
        str(home.directory)
        for home in memberships()
        if home != own and home.status() is None and not home.ray().is_left
    )


def growing_logs(home: NodeHome) -> list[Path]:
    """Return the logs that are written to for as long as the machine is a node."""
    own = [home.reports, *home.directory.glob("*.log"), *home.ray().logs]
    stores = home.directory.glob("study-*")
    paths = [WorkerPaths(study=store, environments=home.environments) for store in stores]
    return [*own, *(log for each in paths for log in each.preparation_logs)]


def main() -> int:
    """Run the node process that is named by the arguments: head, node, slots."""
    assert_ours()
    head, node, slots = sys.argv[1:]
    home = NodeHome.locate(head)
    with home.held() as is_ours:
        if not is_ours:
            return 1
        keep_short(lambda: growing_logs(home))
        code = NodeProcess(home, node=node, slots=int(slots)).run()
        # Under the lock: who waits for it then finds nothing left of this process.
        os._exit(code)


def start_node(home: NodeHome, *, node: str, slots: int) -> subprocess.Popen[bytes]:
    """Start the node process, from an empty directory and a clean environment."""
    with home.driver_log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, home.head, node, str(slots)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=allowed_environment(),
            cwd=home.empty,
            start_new_session=True,
        )
