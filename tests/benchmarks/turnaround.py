"""How long a slot waits between two experiments that use torch, and what a waiting one holds."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath

from eval.metric import Goal, Metric
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.machine import private_mb
from tests.benchmarks.peers import sequential_logs
from tests.benchmarks.research import FIRST_LINE, LAST_LINE, Kind, create_repository
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.study_process import Order
from tests.benchmarks.workshop import Failed, place, running_study
from trainer.environment import Environment
from trainer.paths import WorkerPaths
from trainer.run_folder import RunFolder
from trainer.run_records import Limits, RunReport, RunRequest, WarmStart
from trainer.sandbox.arrange import arrange
from trainer.supervisor_client import Supervisor
from trainer.warm_plan import plan

NAME = "turnaround"
EXPERIMENT_S = 3.0
"""Long enough for torch to be imported meanwhile, beside everything else that two cores do."""
RAMP = 2
"""Experiments at the beginning that nobody could prepare for: the baseline, and the one after."""
_NUMBER = re.compile(r"\d+")


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the pauses of one slot, warm and cold, and those of a loop; then the memory."""
    what = "from a result to the next first line with torch"
    for name, kind, aim in (
        ("warm, in the sandbox", Kind.TORCH, at_most(50)),
        ("cold, in the sandbox", Kind.TORCH_COLD, None),
    ):
        values = study_pauses_ms(kind, sizes.turns)
        yield Figure(bench=NAME, name=f"{what}: {name}", unit="ms", values=values, aim=aim)
    with place() as where:
        logs = sequential_logs(where.folder, rounds=sizes.turns, experiment_s=EXPERIMENT_S)
    peer = f"peer: sequential loop, {what}"
    yield Figure(bench=NAME, name=peer, unit="ms", values=pauses_ms(logs))
    yield Figure(
        bench=NAME,
        name="what the sandbox adds to a run of `true`",
        unit="ms",
        values=overheads_ms(sizes.turns),
        aim=at_most(15),
    )
    yield Figure(
        bench=NAME,
        name="a process that waits (private)",
        unit="MiB",
        values=[idle_mb() for _ in range(sizes.repeats)],
        aim=at_most(160),
    )


def study_pauses_ms(kind: Kind, turns: int) -> list[float]:
    """Return the pauses of a study on one slot, without those at its beginning."""
    order = Order(
        experiments=turns + RAMP, slots=1, experiment_s=EXPERIMENT_S, kind=kind, latency_s=0.0
    )
    with running_study(order) as study:
        study.finish()
        (home,) = study.place.homes()
        found = sorted((home.directory / "logs").glob("e*.log"), key=_number)
        return pauses_ms([log.read_text("utf-8") for log in found])[RAMP:]


def _number(log: Path) -> int:
    return int(_NUMBER.findall(log.name)[0])


def pauses_ms(logs: Sequence[str]) -> list[float]:
    """Return the pauses between experiments, in milliseconds, from their logs in any order."""
    spans = sorted((_time(FIRST_LINE, log), _time(LAST_LINE, log)) for log in logs)
    return [1000 * (begun - ended) for (_, ended), (begun, _) in pairwise(spans)]


def _time(pattern: re.Pattern[str], log: str) -> float:
    found = pattern.search(log)
    if found is None:
        raise Failed(f"an experiment did not say when: {log[-500:]}")
    return float(found[1])


def overheads_ms(rounds: int) -> list[float]:
    """Return by how much a run of `true` in the sandbox outlasts the next one without, each time.

    Both under a supervisor, with limits as a trial has them, and nothing made ready before.
    """
    with place() as where, closing(Supervisor()) as supervisor:
        bare, confined = (_run_of_true(where.folder, kind) for kind in ("none", "bubblewrap"))
        return [
            1000 * (_wall_s(supervisor, confined) - _wall_s(supervisor, bare))
            for _ in range(rounds)
        ]


def _run_of_true(folder: Path, kind: str) -> RunRequest:
    variables = {"PATH": os.defpath, "HOME": "/nowhere"}
    paths = WorkerPaths(study=folder / kind, environments=folder / "environments")
    environment = Environment(argv=("true",), variables=variables)
    sandbox = arrange(kind, environment=environment, data=(), paths=paths)
    run = RunFolder.at(folder / kind / "run")
    run.make(owner=sandbox.owner)
    request = RunRequest(
        argv=environment.argv,
        env=variables,
        cwd=os.fspath(sandbox.seen(run).src),
        log_path=os.fspath(folder / f"{kind}.log"),
        timeout_s=60.0,
        metric=Metric(name="x", goal=Goal.MINIMIZE, pattern="^x: (.*)"),
        mark=f"bench/{folder.name}/{kind}",
        limits=Limits(memory_bytes=1 << 30, pids=100, folders=(os.fspath(run.out),)),
    )
    return sandbox.confine(request, run)


def _wall_s(supervisor: Supervisor, request: RunRequest) -> float:
    supervisor.start(request)
    while not isinstance(report := supervisor.poll(1.0), RunReport):
        pass
    if report.exit_code != 0:
        raise Failed(f"`true` did not run: {report}")
    return report.wall_s


def idle_mb() -> float:
    """Return the private memory of a process that waits with torch imported, beside another one.

    As it does on a slot, where a trial runs meanwhile: the two share what they have of files.
    """
    with place() as where, ExitStack() as stack:
        repository = create_repository(where.folder / "idle", slots=1, kind=Kind.TORCH)
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        start = _warm_start(repository, environment)
        waiting = [stack.enter_context(_waiting(start, repository)) for _ in range(2)]
        return private_mb(waiting[0].pid)


@contextmanager
def _waiting(start: WarmStart, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(start.argv, env=start.env, cwd=folder, stdin=theirs)
    with ours:
        if ours.recv(600) != b"ready\n":
            raise Failed("torch could not be imported early")
        yield process
    process.wait()


def _warm_start(repository: Path, environment: Mapping[str, str]) -> WarmStart:
    def read(path: PurePosixPath) -> bytes | None:
        return (repository / path).read_bytes() if (repository / path).is_file() else None

    script = Kind.TORCH.script
    found = plan(("python", script), environment, tree=str(repository), read=read)
    if not isinstance(found, WarmStart):
        raise Failed(found.reason)
    return found
