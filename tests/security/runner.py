"""Runs one attempt the way a worker runs a trial: a supervisor is handed a request.

Knows the ways to run (in the sandbox, bare, without even a supervisor) and prepares the run folder
as the worker does. Does not know what an attempt tries, nor what its end means.
"""

import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from eval.metric import Goal, Metric
from tests.security.attempt import Aftermath, Attempt
from tests.security.world import World
from trainer.run_records import EndedBy, RunReport, RunRequest
from trainer.supervisor_client import Supervisor
from trainer.worktree import remove_tree

METRIC = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
PATIENCE_S = 30.0
"""How long a report may be late before the supervisor counts as stuck."""
_ATTACK = Path(__file__).with_name("attack.py")


class Runner:
    """Runs attempts in one world, one after the other."""

    def __init__(self, world: World, supervisor: Supervisor) -> None:
        self.world = world
        self._supervisor = supervisor
        self._numbers = itertools.count()

    def run(self, script: str, attempt: Attempt) -> Aftermath:
        """Run a script under the supervisor until its report."""
        folder = self._prepare(script)
        self._supervisor.start(self._request(folder, attempt.timeout_s))
        give_up_at = time.monotonic() + attempt.timeout_s + PATIENCE_S
        while not isinstance(report := self._supervisor.poll(1.0), RunReport):
            assert time.monotonic() < give_up_at, "the supervisor does not report"
        return self._aftermath(folder, report)

    def run_plain(self, script: str, attempt: Attempt) -> Aftermath:
        """Run a script as a careless program would: a child, and a pipe that is read to its end."""
        folder = self._prepare(script)
        request = self._request(folder, attempt.timeout_s)
        secret = os.open(self.world.labels, os.O_RDONLY)
        process = subprocess.Popen(
            request.argv,
            cwd=request.cwd,
            env={**os.environ, "EXAMPLE_API_KEY": self.world.token, **request.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[secret],
            start_new_session=True,
        )
        os.close(secret)
        return self._aftermath(folder, _wait_naively(process, request))

    def _prepare(self, script: str) -> Path:
        folder = self.world.folder / "runs" / str(next(self._numbers))
        for name in ("src", "out"):
            (folder / name).mkdir(parents=True)
        shutil.copy(_ATTACK, folder / "src" / "attack.py")
        (folder / "src" / "host.json").write_text(json.dumps(self.world.facts()))
        (folder / "src" / "train.py").write_text(f"from attack import *\n{script}")
        return folder

    def _request(self, folder: Path, timeout_s: float) -> RunRequest:
        return RunRequest(
            argv=(str(self.world.python), "-S", "train.py"),
            env={
                "PATH": os.defpath,
                "HOME": str(self.world.home),
                "INCUMBENT_OUT": str(folder / "out"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            cwd=str(folder / "src"),
            log_path=str(folder / "log"),
            timeout_s=timeout_s,
            metric=METRIC,
            mark=f"security/{self.world.folder.name}/e{folder.name}.1",
            grace_s=0.3,
        )

    def _aftermath(self, folder: Path, report: RunReport) -> Aftermath:
        return Aftermath(
            report=report,
            world=self.world,
            source=folder / "src",
            out=folder / "out",
            log=folder / "log",
        )

    def clear(self) -> None:
        """Remove what the runs have left."""
        remove_tree(self.world.folder / "runs")


def _wait_naively(process: "subprocess.Popen[bytes]", request: RunRequest) -> RunReport:
    """Read to the end of the output and send SIGTERM at the limit, in the belief that it helps."""
    try:
        output, _ = process.communicate(timeout=request.timeout_s)
        ended_by = EndedBy.EXIT
    except subprocess.TimeoutExpired as late:
        process.terminate()
        output, ended_by = late.output or b"", EndedBy.TIMEOUT
    Path(request.log_path).write_bytes(output)
    return RunReport(
        ended_by=ended_by, exit_code=process.poll(), tail=output.decode("utf-8", "replace")
    )
