"""What happens when the worker, the supervisor, or nobody dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psutil
import pytest

from eval.metric import Goal, Metric
from trainer.run_records import EndedBy, RunReport, RunRequest
from trainer.supervisor_client import Supervisor

REPOSITORY = Path(__file__).resolve().parents[2]
METRIC = Metric(name="m", goal=Goal.MINIMIZE, pattern=r"m=(\S+)")
PATIENCE_S = 60.0
FAMILY = """
import os, signal, sys, time
def up(name):
    with open(name + ".new", "w") as file: file.write(str(os.getpid()))
    os.rename(name + ".new", name)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        up("daemon")
        time.sleep(600)
    os._exit(0)
os.wait()
if os.fork() == 0:
    up("child")
    time.sleep(600)
if DAEMON_WITHOUT_A_MARK and os.fork() == 0:
    os.setsid()
    up("unmarked")
    os.execve(sys.executable, [sys.executable, "-ISc", "import time; time.sleep(600)"], {})
with open("supervisor", "w") as file: file.write(str(os.getppid()))
while not all(map(os.path.exists, ("daemon", "child"))): time.sleep(0.01)
while DAEMON_WITHOUT_A_MARK and not os.path.exists("unmarked"): time.sleep(0.01)
up("first")
time.sleep(600)
"""
WORKER = """
import os, sys
sys.path.append({repository!r})
from trainer.run_records import *
from trainer.supervisor_client import Supervisor
from eval.metric import *
supervisor = Supervisor()
supervisor.start(RunRequest(
    argv=(sys.executable, "-ISc", {code!r}), cwd={folder!r}, env={{}}, log_path={folder!r} + "/log",
    timeout_s=600, metric=Metric(name="m", goal=Goal.MINIMIZE, pattern="m=(.)"), mark={mark!r},
))
while True: supervisor.poll(600)
"""


def request(folder, code, *, mark=None, **values):
    return RunRequest(
        argv=(sys.executable, "-ISc", code),
        cwd=str(folder),
        env={},
        log_path=str(folder / "log"),
        timeout_s=PATIENCE_S,
        metric=METRIC,
        mark=mark or f"study/{folder.name}/e1.1",
        **values,
    )


def report_of(supervisor):
    while not isinstance(news := supervisor.poll(PATIENCE_S), RunReport):
        assert news is not None
    return news


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def until(condition):
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def family(folder, *names):
    """Return the process ids of a trial's family, once it is complete."""
    until((folder / "first").exists)
    return {name: int((folder / name).read_text()) for name in ("supervisor", "first", *names)}


@pytest.mark.parametrize("has_group_killed", [False, True])
def test_nothing_outlives_a_worker_that_is_killed(tmp_path, has_group_killed):
    code = f"DAEMON_WITHOUT_A_MARK = True\n{FAMILY}"
    mark = f"study/{tmp_path.name}/e1.1"
    program = WORKER.format(repository=str(REPOSITORY), code=code, folder=str(tmp_path), mark=mark)
    worker = subprocess.Popen([sys.executable, "-c", program], process_group=0)
    pids = family(tmp_path, "daemon", "child", "unmarked")
    assert all(is_alive(pid) for pid in pids.values())
    if has_group_killed:
        os.killpg(worker.pid, signal.SIGKILL)
    else:
        worker.kill()
    worker.wait()
    until(lambda: not any(is_alive(pid) for pid in pids.values()))


def test_a_killed_supervisor_is_reported_and_replaced(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, f"DAEMON_WITHOUT_A_MARK = False\n{FAMILY}"))
        pids = family(tmp_path, "daemon", "child")
        os.kill(pids["supervisor"], signal.SIGKILL)
        report = report_of(supervisor)
        assert report.ended_by is EndedBy.SUPERVISOR_LOST
        assert report.exit_code is None
        assert report.leftover_processes >= 2
        until(lambda: not any(is_alive(pid) for pid in pids.values()))
        supervisor.start(request(tmp_path, "print('m=1')"))
        assert report_of(supervisor).metric_text == "1"


def test_a_supervisor_that_gives_no_report_is_not_waited_for(tmp_path):
    with closing(Supervisor(late_s=0.0)) as supervisor:
        hanging = replace(
            request(tmp_path, f"DAEMON_WITHOUT_A_MARK = False\n{FAMILY}"),
            timeout_s=60.0,
            grace_s=0.0,
        )
        supervisor.start(hanging)
        pids = family(tmp_path, "daemon", "child")
        os.kill(pids["supervisor"], signal.SIGSTOP)
        supervisor._report_by = time.monotonic()  # the minute is over
        while not isinstance(report := supervisor.poll(0.0), RunReport):
            pass  # progress of the time before
        assert report.ended_by is EndedBy.SUPERVISOR_LOST
        assert report.problem == "the trial supervisor gives no report"
        until(lambda: not any(is_alive(pids[name]) for name in ("daemon", "child")))
        os.kill(pids["supervisor"], signal.SIGCONT)
        until(lambda: not is_alive(pids["supervisor"]))


def test_an_idle_supervisor_that_was_killed_is_replaced_unnoticed(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, "import os; print(os.getppid())"))
        first = int(report_of(supervisor).tail)
        os.kill(first, signal.SIGKILL)
        until(lambda: not is_alive(first))
        supervisor.start(request(tmp_path, "import os; print(os.getppid())"))
        assert int(report_of(supervisor).tail) != first


def test_a_supervisor_told_to_terminate_takes_everything_with_it(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, f"DAEMON_WITHOUT_A_MARK = True\n{FAMILY}"))
        pids = family(tmp_path, "daemon", "child", "unmarked")
        os.kill(pids["supervisor"], signal.SIGTERM)
        assert report_of(supervisor).ended_by is EndedBy.SUPERVISOR_LOST
        until(lambda: not any(is_alive(pid) for pid in pids.values()))


def test_close_kills_what_runs_and_may_be_repeated(tmp_path):
    supervisor = Supervisor()
    supervisor.close()
    supervisor.start(request(tmp_path, f"DAEMON_WITHOUT_A_MARK = True\n{FAMILY}"))
    pids = family(tmp_path, "daemon", "child", "unmarked")
    supervisor.close()
    del pids["supervisor"]
    assert not any(is_alive(pid) for pid in pids.values())
    supervisor.close()


def test_after_close_a_new_run_may_start(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, "import time; time.sleep(600)"))
        supervisor.close()
        supervisor.start(request(tmp_path, "print('m=2')"))
        assert report_of(supervisor).metric_text == "2"


def test_poll_returns_none_when_there_is_nothing_new(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, "import time; time.sleep(600)"))
        before = time.monotonic()
        assert supervisor.poll(0.0) is None
        assert supervisor.poll(0.05) is None
        assert time.monotonic() - before < PATIENCE_S


def test_a_busy_client_stalls_no_run_and_still_gets_the_report(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, "import time; time.sleep(0.6); print('m=3')"))
        time.sleep(0.8)
        assert report_of(supervisor).metric_text == "3"


def test_two_runs_at_once_are_refused(tmp_path):
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, "import time; time.sleep(600)"))
        with pytest.raises(RuntimeError, match="still runs"):
            supervisor.start(request(tmp_path, ""))


def test_a_poll_without_a_run_is_refused():
    with pytest.raises(RuntimeError, match="no run"):
        Supervisor().poll(0.0)


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_a_supervisor_that_cannot_start_is_an_error(tmp_path, python):
    with pytest.raises(RuntimeError, match="the trial supervisor"):
        Supervisor(python=python).start(request(tmp_path, ""))


def test_it_works_from_a_thread_that_ends_before_the_run(tmp_path):
    with closing(Supervisor()) as supervisor:
        run = request(tmp_path, "import time; time.sleep(0.3); print('m=4')")
        thread = Thread(target=supervisor.start, args=(run,))
        thread.start()
        thread.join()
        assert report_of(supervisor).metric_text == "4"


def test_blocked_signals_of_the_client_do_not_reach_the_supervisor(tmp_path):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])
    try:
        with closing(Supervisor()) as supervisor:
            supervisor.start(
                request(tmp_path, "import signal; print(signal.pthread_sigmask(0, []))")
            )
            assert report_of(supervisor).tail == "set()\n"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_two_supervisors_of_one_process_do_not_keep_each_other_alive(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with closing(Supervisor()) as one, closing(Supervisor()) as two:
        one.start(request(tmp_path / "a", f"DAEMON_WITHOUT_A_MARK = False\n{FAMILY}"))
        two.start(request(tmp_path / "b", f"DAEMON_WITHOUT_A_MARK = False\n{FAMILY}"))
        first, second = family(tmp_path / "a"), family(tmp_path / "b")
        one.close()
        until(lambda: not any(is_alive(pid) for pid in first.values()))
        assert all(is_alive(pid) for pid in second.values())


def test_the_client_leaves_no_child_and_no_descriptor_behind(tmp_path):
    children = set(psutil.Process().children())  # of other tests
    with closing(Supervisor()) as supervisor:
        supervisor.start(request(tmp_path, ""))
        report_of(supervisor)
        assert set(psutil.Process().children()) <= children
        before = len(list(Path("/proc/self/fd").iterdir()))
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


def test_the_supervisor_shares_neither_session_nor_environment_with_the_worker(tmp_path):
    os.environ["INCUMBENT_TEST_SECRET"] = "secret"
    try:
        with closing(Supervisor()) as supervisor:
            supervisor.start(request(tmp_path, "import os; print(os.getppid())"))
            pid = int(report_of(supervisor).tail)
            assert os.getsid(pid) not in {pid, os.getsid(0)}
            assert os.getpgid(pid) != os.getpgid(0)
            assert b"INCUMBENT" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
            assert Path(f"/proc/{pid}/stat").read_text().split()[3] != str(os.getpid())
    finally:
        del os.environ["INCUMBENT_TEST_SECRET"]


def test_the_supervisor_loads_the_standard_library_and_its_own_modules_alone(tmp_path):
    code = (
        f"import sys; sys.path.append({str(REPOSITORY)!r}); import trainer.supervisor;"
        "print(*sorted(name for name in sys.modules if name.startswith(('trainer', 'eval'))));"
        "print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    ours, foreign = done.stdout.splitlines()
    assert ours.split() == [
        "eval",
        "eval.metric",
        "trainer",
        "trainer.armed",
        "trainer.control_group",
        "trainer.folder_use",
        "trainer.launch",
        "trainer.limits",
        "trainer.log_capture",
        "trainer.process_tree",
        "trainer.process_use",
        "trainer.run_records",
        "trainer.run_stages",
        "trainer.run_start",
        "trainer.safe_read",
        "trainer.sandbox",
        "trainer.sandbox.bubblewrap",
        "trainer.sandbox.privileges",
        "trainer.sandbox.seccomp",
        "trainer.sandbox.syscalls",
        "trainer.step_rate",
        "trainer.supervisor",
        "trainer.supervisor_link",
        "trainer.trial_user",
    ]
    assert set(foreign.split()) <= {"trainer", "eval", "__main__"}
