"""Runs whose process waited for them, under a real supervisor, some in the sandbox."""

import os
import pickle
import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from eval.metric import Goal, Metric
from trainer.endings import classify
from trainer.environment import Environment
from trainer.paths import WorkerPaths
from trainer.removal import Trash
from trainer.run_folder import RunFolder
from trainer.run_records import EndedBy, Limits, RunReport, RunRequest, WarmStart
from trainer.run_start import Start
from trainer.sandbox.arrange import arrange
from trainer.supervisor_client import Supervisor
from trainer.trial import CrashKind
from trainer.warm_plan import Cold, gate, plan

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)")
PATIENCE_S = 60.0
NO_SCRIPT = Cold(reason="the command is no script")
SHOW = "import os; print('loss: 1'); print(sorted(os.environ.items()), os.getcwd())"


def until(condition) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


class Bench:
    """A supervisor, and runs of scripts that can start warm."""

    def __init__(self, path: Path, supervisor: Supervisor) -> None:
        self.path = path
        self.supervisor = supervisor
        self.mark = f"study/{path.name}/e1.1"

    def request(self, code: str, *, kind: str = "none", preload=("decimal",), **values):
        """A request to run `code` as train.py; `preload` is imported early."""
        variables = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": "/nowhere"}
        environment = Environment(argv=("python", "train.py"), variables=variables)
        paths = WorkerPaths(study=self.path / "study", environments=self.path / "environments")
        sandbox = arrange(kind, environment=environment, data=(), paths=paths)
        tree = self.path / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "train.py").write_text(code)
        run = RunFolder.at(self.path / "run")
        run.discard(Trash(self.path / "trash"))
        run.fill(tree, owner=sandbox.owner)
        seen = sandbox.seen(run)
        request = RunRequest(
            argv=environment.argv,
            env=variables,
            cwd=str(seen.src),
            log_path=str(self.path / "log"),
            timeout_s=values.pop("timeout_s", PATIENCE_S),
            metric=METRIC,
            mark=self.mark,
            **values,
        )
        request = sandbox.confine(request, run)

        def read(path: PurePosixPath) -> bytes | None:
            return (tree / path).read_bytes() if (tree / path).is_file() else None

        warm = plan(request.argv, request.env, tree=request.cwd, read=read, preload=preload)
        assert isinstance(warm, WarmStart)
        return replace(request, warm=warm)

    def finish(self) -> RunReport:
        while not isinstance(news := self.supervisor.poll(PATIENCE_S), RunReport):
            assert news is not None
        return news

    def processes(self) -> list[int]:
        """Processes that bear the run's mark and are no bwrap."""
        mark = f"\0INCUMBENT_TRIAL={self.mark}\0".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_python = b"python" in (folder / "cmdline").read_bytes().partition(b"\0")[0]
                if is_python and mark in b"\0" + (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def armed(self) -> int:
        """Wait for the process that waits, and return its number."""
        until(self.processes)
        return self.processes()[0]


@pytest.fixture
def bench(tmp_path: Path):
    with closing(Supervisor()) as supervisor:
        yield Bench(tmp_path, supervisor)


@pytest.mark.parametrize("kind", ["none", "bubblewrap"])
def test_a_run_that_was_waited_for_is_like_any_other(bench: Bench, kind: str) -> None:
    request = bench.request(SHOW, kind=kind)
    bench.supervisor.start(request)
    cold = bench.finish()
    bench.supervisor.arm(request)
    bench.supervisor.start(request)
    warm = bench.finish()
    assert (cold.start, warm.start, warm.cold_reason) == (Start.COLD, Start.WARM, "")
    assert (cold.sandbox, warm.sandbox) == (kind, kind)
    assert warm.tail == cold.tail
    assert (warm.ended_by, warm.exit_code, warm.metric_text) == (EndedBy.EXIT, 0, "1")
    assert Path(request.log_path).read_text() == warm.tail
    assert bench.processes() == []


def test_time_counts_from_go(bench: Bench) -> None:
    request = bench.request("import time; time.sleep(0.2)", timeout_s=5)
    bench.supervisor.arm(request)
    bench.armed()
    time.sleep(waited_s := 2.0)
    bench.supervisor.start(request)
    report = bench.finish()
    assert report.start is Start.WARM
    assert 0.2 <= report.wall_s < waited_s


def test_one_after_the_other_is_armed_and_run(bench: Bench) -> None:
    for number in range(3):
        request = bench.request(f"print('loss: {number}')")
        bench.supervisor.arm(request)
        bench.supervisor.start(request)
        report = bench.finish()
        assert (report.start, report.metric_text) == (Start.WARM, str(number))


@pytest.mark.parametrize("kind", ["none", "bubblewrap"])
def test_the_time_limit_and_the_script_s_own_handler_work_as_ever(bench: Bench, kind: str) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
print("up", flush=True)
time.sleep(600)
"""
    request = bench.request(code, kind=kind, timeout_s=0.5)
    bench.supervisor.arm(request)
    bench.supervisor.start(request)
    report = bench.finish()
    assert report.start is Start.WARM
    assert (report.ended_by, report.exit_code) == (EndedBy.TIMEOUT, 1)
    assert report.tail == "up\ntold to end\n"


def test_another_run_than_the_one_waited_for_starts_cold(bench: Bench) -> None:
    armed, other = (
        bench.request("print('loss: 1')"),
        bench.request("print('loss: 2')", preload=["json"]),
    )
    bench.supervisor.arm(armed)
    first = bench.armed()
    bench.supervisor.start(other)
    report = bench.finish()
    assert (report.start, report.metric_text) == (Start.COLD, "2")
    assert first not in bench.processes()
    assert report.leftover_processes == 0


def test_a_run_that_came_unexpected_starts_cold_and_a_reason_is_not_that_of_another(
    bench: Bench,
) -> None:
    hopeless = bench.request("import nowhere", preload=["nowhere"])
    bench.supervisor.arm(hopeless)
    bench.supervisor.start(hopeless)
    bench.finish()
    bench.supervisor.start(replace(hopeless, warm=None))
    report = bench.finish()
    assert (report.start, report.sandbox) == (Start.COLD, "none")
    assert report.cold_reason == "its slot learnt of it only at its turn"


def test_only_the_last_that_was_armed_waits(bench: Bench) -> None:
    request = bench.request(SHOW)
    bench.supervisor.arm(request)
    first = bench.armed()
    other = bench.request("print('loss: 2')", preload=["json"])
    bench.supervisor.arm(other)
    until(lambda: bench.processes() and first not in bench.processes())
    bench.supervisor.start(other)
    assert bench.finish().start is Start.WARM


def test_what_cannot_be_prepared_starts_cold_and_says_why_by_itself(bench: Bench) -> None:
    request = bench.request("import nowhere", preload=["nowhere"])
    bench.supervisor.arm(request)
    bench.supervisor.start(request)
    report = bench.finish()
    assert (report.start, report.exit_code) == (Start.COLD, 1)
    assert report.cold_reason == "ModuleNotFoundError: No module named 'nowhere'"
    assert report.tail.endswith("ModuleNotFoundError: No module named 'nowhere'\n")
    assert report.tail.count("\n") == 4


def test_a_waiting_process_that_was_killed_is_replaced(bench: Bench) -> None:
    request = bench.request("print('loss: 1')")
    bench.supervisor.arm(request)
    pid = bench.armed()
    os.kill(pid, 9)
    until(lambda: pid not in bench.processes())
    bench.supervisor.start(request)
    report = bench.finish()
    assert (report.start, report.metric_text, report.exit_code) == (Start.COLD, "1", 0)
    assert report.cold_reason == "it ended while it waited"


def test_a_waiting_process_ends_when_it_is_not_wanted(bench: Bench) -> None:
    bench.supervisor.arm(bench.request(SHOW))
    bench.armed()
    bench.supervisor.disarm()
    until(lambda: not bench.processes())
    bench.supervisor.disarm()


@pytest.mark.parametrize("kind", ["none", "bubblewrap"])
def test_a_waiting_process_ends_with_its_client(bench: Bench, kind: str) -> None:
    bench.supervisor.arm(bench.request(SHOW, kind=kind))
    bench.armed()
    bench.supervisor.close()
    assert bench.processes() == []


def test_a_waiting_process_ends_with_its_supervisor(bench: Bench) -> None:
    bench.supervisor.arm(bench.request(SHOW))
    pid = bench.armed()
    supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, 9)
    until(lambda: not bench.processes())
    request = bench.request("print('loss: 1')")
    bench.supervisor.start(request)
    report = bench.finish()
    assert (report.start, report.metric_text) == (Start.COLD, "1")


def test_a_run_does_not_wait_long_for_imports_that_hang(bench: Bench) -> None:
    """Cancelled while its process still imports, it starts, and is ended like any other."""
    library = bench.path / "library"
    library.mkdir()
    (library / "slow.py").write_text("import time; print('importing', flush=True); time.sleep(600)")
    request = bench.request("print('up', flush=True)\nimport time; time.sleep(600)")
    slow = f"import sys; sys.path.append({str(library)!r})\nimport slow"
    python, *_ = request.warm.argv
    warm = WarmStart(argv=(python, "-c", slow), env=request.warm.env)
    request = replace(request, warm=warm)
    bench.supervisor.arm(request)
    bench.armed()
    bench.supervisor.start(request)
    bench.supervisor.cancel()
    report = bench.finish()
    assert (report.ended_by, report.start) == (EndedBy.CANCEL, Start.COLD)
    assert report.cold_reason == "its imports took too long"


def test_limits_hold_for_a_process_that_waited(bench: Bench) -> None:
    code = "x = bytearray(400_000_000)\nimport time; time.sleep(600)"
    request = bench.request(code, limits=Limits(memory_bytes=200_000_000, pids=50))
    bench.supervisor.arm(request)
    bench.armed()
    bench.supervisor.start(request)
    report = bench.finish()
    assert (report.ended_by, report.start) == (EndedBy.MEMORY, Start.WARM)


def test_arming_while_a_run_is_under_way_is_refused(bench: Bench) -> None:
    request = bench.request("import time; time.sleep(600)")
    bench.supervisor.start(request)
    with pytest.raises(RuntimeError, match="still runs"):
        bench.supervisor.arm(request)


COMMAND = """
import os, sys
print(sys.argv[1:], sorted(os.environ.items()), os.getcwd(), [sys.stdin.read()], os.getpgrp())
print(sorted(os.listdir('/proc/self/fd')), open('/proc/self/cmdline').read().count('ready'))
print('loss: 1')
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["none", "bubblewrap"])
def test_a_shell_can_wait_for_any_command(bench: Bench, kind: str) -> None:
    request = bench.request("", kind=kind)
    argv = (*request.argv[:1], "-c", COMMAND, "a b", "$HOME", "", "'")
    warm_start = gate(argv, request.env, NO_SCRIPT, is_confined=kind == "bubblewrap")
    request = replace(request, argv=argv, warm=warm_start)
    bench.supervisor.start(request)
    cold = bench.finish()
    bench.supervisor.arm(request)
    bench.supervisor.start(request)
    warm = bench.finish()
    assert (cold.start, warm.start) == (Start.COLD, Start.GATE)
    assert warm.cold_reason == NO_SCRIPT.reason
    assert re.sub(r"\d+\n", "", warm.tail, count=1) == re.sub(r"\d+\n", "", cold.tail, count=1)
    assert (warm.exit_code, warm.metric_text, cold.exit_code) == (3, "1", 3)


def test_a_command_that_is_missing_is_missing_after_a_wait_too(bench: Bench) -> None:
    argv = ("./missing", "x")
    request = bench.request("")
    request = replace(
        request, argv=argv, warm=gate(argv, request.env, NO_SCRIPT, is_confined=False)
    )
    bench.supervisor.arm(request)
    bench.supervisor.start(request)
    report = bench.finish()
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, 127)
    assert classify(report, device_class="cpu", stages_s={}).crash is CrashKind.NOT_STARTED


DIES_UNHEARD = """
import os, pickle, socket, sys
from trainer.run_records import ArmRequest, MessageReader, RunReport
from trainer.supervisor import _Supervisor
request = pickle.loads(sys.stdin.buffer.read())
ours, theirs = socket.socketpair()
supervisor = _Supervisor(theirs)
supervisor._obey(ArmRequest(run=request))
waiting = supervisor._armed
assert waiting.is_ready(theirs), waiting.problem
os.kill(waiting.started.pid, 9)
os.waitid(os.P_PID, waiting.started.pid, os.WEXITED | os.WNOWAIT)
supervisor._obey(request)  # it has not been heard of yet
while supervisor._trial:
    supervisor._step()
(report,) = [m for m in MessageReader().feed(ours.recv(1 << 16)) if isinstance(m, RunReport)]
print(report.start, report.cold_reason, report.exit_code, report.metric_text, sep=", ")
"""


def test_a_waiting_process_that_dies_unheard_as_its_run_begins_is_replaced(bench: Bench) -> None:
    request = bench.request("print('loss: 1')")
    done = subprocess.run(
        [sys.executable, "-c", DIES_UNHEARD],
        input=pickle.dumps(request),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "cold, it was killed while it waited, 0, 1\n"
