"""Real trials under a real supervisor: what is measured, limited, found and cleaned up."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from eval.metric import Goal, Metric
from trainer.run_records import EndedBy, RunProgress, RunReport, RunRequest
from trainer.supervisor_client import Supervisor

METRIC = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
PATIENCE_S = 60.0
DAEMONS = """
import os, signal, sys, time
def up(name):
    # Written elsewhere first: who sees the file finds the number in it.
    with open(name + ".new", "w") as file: file.write(str(os.getpid()))
    os.rename(name + ".new", name)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sleep = [sys.executable, "-ISc", "import time; time.sleep(600)"]
def daemon(name, *, env):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            up(name)
            os.execve(sys.executable, sleep, env)
        os._exit(0)
    os.wait()
daemon("marked", env=dict(os.environ))
daemon("unmarked", env={})
if os.fork() == 0:
    up("child")
    time.sleep(600)
while not os.path.exists("child"): time.sleep(0.01)
"""
"""Leaves two daemons and a child, all of which ignore SIGTERM and hold the output open."""


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


@pytest.fixture
def run(tmp_path):
    """Run Python code, or a command, as a trial; return the report, or also what came before."""
    with closing(Supervisor()) as supervisor:

        def start(code="", *, argv=None, log=None, timeout_s=PATIENCE_S, **values):
            supervisor.start(
                RunRequest(
                    argv=argv or (sys.executable, "-ISc", code),
                    cwd=values.pop("cwd", str(tmp_path)),
                    env={"PATH": os.environ["PATH"], **values.pop("env", {})},
                    log_path=str(log or tmp_path / "log"),
                    timeout_s=timeout_s,
                    metric=METRIC,
                    mark=f"study/{tmp_path.name}/e1.1",
                    **values,
                )
            )

        def finish():
            progress = []
            while not isinstance(news := supervisor.poll(PATIENCE_S), RunReport):
                assert news is not None
                progress.append(news)
            return news, progress

        def run(*args, **values):
            start(*args, **values)
            return finish()[0]

        run.start, run.finish, run.supervisor = start, finish, supervisor
        yield run


@pytest.fixture
def full_disk(tmp_path):
    """A path on a file system without space: a small tmpfs where one can be had, or /dev/full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder))
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield Path("/dev/full")
        return
    yield folder / "log"
    subprocess.run(("umount", str(folder)), check=True)


# Output and metric


def test_a_good_run_is_measured(run, tmp_path):
    report = run("""
import time
print("val_bpb:          0.997900")
print("peak_vram_mb:     12.5")
x = bytearray(32 << 20)
while time.process_time() < 0.1: pass
""")
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, 0)
    assert (report.metric_text, report.metric_count) == ("0.997900", 1)
    assert report.summary == {"peak_vram_mb": 12.5}
    assert 0.1 <= report.cpu_s < PATIENCE_S
    assert 0.1 <= report.wall_s < PATIENCE_S
    assert 32 < report.max_rss_mb < 200
    assert (report.leftover_processes, report.problem) == (0, "")
    assert report.tail == (tmp_path / "log").read_text()
    assert report.log_bytes == len(report.tail)


def test_the_stages_and_the_rate_of_a_run_are_told_by_its_log(run):
    report = run("""
import time
time.sleep(0.3)
print("loading", flush=True)
time.sleep(0.3)
for step in range(40):
    print(f"\\rstep {step} | loss: 2.0", end="", flush=True)
    time.sleep(0.05)
print("\\nevaluating", flush=True)
time.sleep(0.4)
print("val_bpb: 0.5")
""")
    assert list(report.stages_s) == ["start", "prepare", "steps", "evaluate"]
    assert sum(report.stages_s.values()) == pytest.approx(report.wall_s)
    assert report.stages_s["start"] >= 0.3
    # Whoever reads the first output late gives to the one stage what the other lacks.
    assert report.stages_s["start"] + report.stages_s["prepare"] >= 0.6
    assert report.stages_s["steps"] >= 1.8
    assert report.stages_s["evaluate"] >= 0.35
    assert report.step_counter == "step"
    assert 1 < report.steps_per_s <= 20.5


def test_a_run_that_says_nothing_has_no_stages(run):
    report = run("pass")
    assert (report.stages_s, report.steps_per_s, report.step_counter) == ({}, None, "")


def test_stdout_and_stderr_go_to_one_log_in_order(run, tmp_path):
    run("import os\nfor n in range(6): os.write(1 + n % 2, b'%d' % n)")
    assert (tmp_path / "log").read_text() == "012345"


def test_the_last_of_several_metrics_counts(run):
    report = run("print('val_bpb: nan'); print('val_bpb: 0.5'); print('val_bpb: 0.4')")
    assert (report.metric_text, report.metric_count) == ("0.4", 3)
    assert report.final_values == 3


def test_when_the_value_that_counts_was_printed_is_told(run):
    report = run("""
import time
print("val_bpb: 0.5", flush=True)
time.sleep(0.3)
print("val_bpb: 0.5", flush=True)
time.sleep(0.3)
print("the end")
""")
    assert 0.3 <= report.value_at_s <= report.wall_s - 0.25
    assert run("print('nothing')").value_at_s is None


def test_when_training_began_is_told(run):
    report = run("""
import time
for step in range(3):
    print("step", step, "|", flush=True)
    time.sleep(0.3)
print("val_bpb: 0.5")
""")
    assert 0.0 < report.first_step_s <= report.value_at_s - 0.85
    assert run("print('val_bpb: 0.5')").first_step_s is None


def test_values_of_the_end_are_those_that_no_step_separates(run):
    report = run("""
import time
for epoch in range(3):
    time.sleep(0.2)
    print(f"epoch: {epoch}\\nval_bpb: 0.9{epoch}", flush=True)
time.sleep(0.7)
print("val_bpb: 0.9", flush=True)
time.sleep(1.2)
print("val_bpb: 0.1")
""")
    assert (report.metric_text, report.metric_count) == ("0.1", 5)
    assert report.final_values == 2


def test_output_that_is_not_text_hurts_nobody(run):
    report = run("import os; os.write(1, bytes(range(256)) * 9 + b'\\nval_bpb: 0.3\\n\\xff')")
    assert report.metric_text == "0.3"
    assert "\x1b" not in report.tail


def test_progress_tells_the_last_line_and_its_numbers(run):
    run.start("""
import sys, time
for step in range(300):
    sys.stdout.write(f"\\rstep {step:05d} ({step/10:.1f}%) | loss: 2.5 | remaining: 3s    ")
    sys.stdout.flush()
    time.sleep(0.002)
""")
    report, progress = run.finish()
    assert report.exit_code == 0
    assert 1 <= len(progress) <= 2 * report.wall_s + 1
    seen = progress[-1]
    assert seen.last_line.startswith("step 00")
    assert 0 < seen.elapsed_s < PATIENCE_S
    assert seen.points["loss"] == 2.5
    assert seen.points["step"] == pytest.approx(10 * seen.points["percent"])
    assert report.tail.startswith("step 00299 (29.9%)")
    assert "\r" not in report.tail


FLOOD = """
import os, sys
flood = (b"x" * 79 + b"\\n") * 13107
for part in range(int(sys.argv[1] if sys.argv[1:] else 400)):
    os.write(1, flood)
    if part == 200: os.write(1, b"val_bpb: 0.25\\n")
"""


def test_a_flood_is_drained_quickly_and_the_metric_in_its_middle_is_found(run, tmp_path):
    began = time.monotonic()
    peer = subprocess.Popen([sys.executable, "-c", FLOOD, "40"], stdout=subprocess.PIPE)
    with peer:
        assert sum(b"val_bpb" in line for line in peer.stdout) == 0
    by_lines_s = 10 * (time.monotonic() - began)
    report = run(FLOOD)
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "0.25")
    assert report.log_bytes > 419_000_000
    assert report.log_dropped == report.log_bytes - (2 << 20)
    assert report.wall_s < by_lines_s, "no slower than whoever reads line by line and keeps nothing"
    log = (tmp_path / "log").read_bytes()
    assert f"\n[... {report.log_dropped} bytes dropped ...]\n".encode() in log
    assert (2 << 20) < len(log) < (2 << 20) + 100


def test_the_log_can_be_followed_below_and_above_the_cap(run, tmp_path):
    run.start("""
import os, time
os.write(1, b"first")
while not os.path.exists("go"): time.sleep(0.01)
os.write(1, b"x" * (3 << 20) + b"last")
while not os.path.exists("end"): time.sleep(0.01)
""")
    log = tmp_path / "log"
    until(lambda: log.exists() and log.read_bytes() == b"first")
    (tmp_path / "go").touch()
    until(lambda: b"bytes dropped" in log.read_bytes() and log.read_bytes().endswith(b"last"))
    (tmp_path / "end").touch()
    assert run.finish()[0].log_bytes == (3 << 20) + 9


# Endings


def test_an_exit_code_is_reported(run):
    assert run("raise SystemExit(3)").exit_code == 3


def test_a_signal_is_reported(run):
    report = run("import os; os.kill(os.getpid(), 11)")
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, -signal.SIGSEGV)


@pytest.mark.parametrize("argv", [("no-such-command",), ("./not-executable",), ("",)])
def test_a_command_that_cannot_start_is_reported_with_the_systems_words(run, tmp_path, argv):
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    report = run(argv=argv)
    assert (report.ended_by, report.exit_code) == (EndedBy.NOT_STARTED, None)
    assert argv[0] in report.problem
    assert report.problem.startswith("[Errno")
    assert run("print('val_bpb: 1')").metric_text == "1"


def test_a_missing_folder_a_nul_byte_and_a_log_without_a_place_are_no_starts_either(run, tmp_path):
    assert "gone" in run("", cwd=str(tmp_path / "gone")).problem
    assert "null byte" in run("\0").problem
    assert "nowhere" in run("", log=tmp_path / "nowhere" / "log").problem


def test_a_timeout_ends_the_whole_tree(run, tmp_path):
    report = run(DAEMONS + "time.sleep(600)", timeout_s=1.0, grace_s=0.1)
    assert report.ended_by is EndedBy.TIMEOUT
    assert report.exit_code == -signal.SIGKILL
    assert report.wall_s >= 1.1
    names = ("marked", "unmarked", "child")
    pids = [(tmp_path / name).read_text() for name in names if (tmp_path / name).exists()]
    assert not any(is_alive(pid) for pid in pids)


def test_a_short_timeout_is_kept(run):
    report = run("import time; time.sleep(600)", timeout_s=0.3)
    assert (report.ended_by, report.exit_code) == (EndedBy.TIMEOUT, -signal.SIGTERM)
    assert 0.3 <= report.wall_s < PATIENCE_S / 2


def test_a_run_may_use_its_grace_to_say_goodbye(run):
    report = run(
        """
import signal, sys, time
def leave(*_):
    print("val_bpb: 0.5")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
time.sleep(600)
""",
        timeout_s=1.0,
        grace_s=PATIENCE_S,
    )
    assert (report.ended_by, report.exit_code) == (EndedBy.TIMEOUT, 0)
    assert report.metric_text == "0.5"


def test_a_run_that_floods_while_it_ignores_sigterm_is_ended(run):
    code = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: os.write(1, b"x" * 65536)
"""
    report = run(code, timeout_s=0.5, grace_s=0.2)
    assert (report.ended_by, report.exit_code) == (EndedBy.TIMEOUT, -signal.SIGKILL)


def test_a_run_that_closes_its_output_still_has_its_time_limit(run):
    report = run("import os, time; os.close(1); os.close(2); time.sleep(600)", timeout_s=0.5)
    assert report.ended_by is EndedBy.TIMEOUT


def test_a_cancelled_run_ends(run, tmp_path):
    run.start(DAEMONS + "time.sleep(600)", grace_s=0.1)
    until((tmp_path / "child").exists)
    run.supervisor.cancel()
    report, _ = run.finish()
    assert (report.ended_by, report.exit_code) == (EndedBy.CANCEL, -signal.SIGKILL)
    assert report.leftover_processes == 3
    run.supervisor.cancel()
    assert run("print('val_bpb: 1')").ended_by is EndedBy.EXIT


def test_the_end_of_the_first_process_is_the_end_of_all(run, tmp_path):
    report = run(DAEMONS + "print('val_bpb: 0.5')")
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, 0)
    assert report.metric_text == "0.5"
    assert report.leftover_processes == 3
    pids = [(tmp_path / name).read_text() for name in ("marked", "unmarked", "child")]
    assert [is_alive(pid) for pid in pids] == [False] * 3


def test_what_a_child_printed_just_before_the_end_is_kept(run, tmp_path):
    report = run("""
import os, time
if os.fork() == 0:
    os.write(1, b"y" * 500_000)
    open("written", "w").close()
    time.sleep(600)
while not os.path.exists("written"): time.sleep(0.001)
""")
    assert report.log_bytes == 500_000
    assert (tmp_path / "log").stat().st_size == 500_000


def test_orphans_that_end_by_themselves_are_no_leftovers_and_their_time_counts(run):
    report = run("""
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.2: pass
        open("done", "w").close()
    os._exit(0)
os.wait()
while not os.path.exists("done"): time.sleep(0.01)
time.sleep(0.3)
""")
    assert report.leftover_processes == 0
    assert report.cpu_s >= 0.2


def test_a_full_disk_stops_the_run_and_not_the_supervisor(run, full_disk):
    report = run("import os, time\nos.write(1, b'z' * 500_000)\ntime.sleep(600)", log=full_disk)
    assert report.ended_by is EndedBy.DISK_FULL
    assert report.exit_code == -signal.SIGKILL
    assert "No space left on device" in report.problem
    assert report.tail.endswith("zzz")
    assert run("print('val_bpb: 1')").ended_by is EndedBy.EXIT


# Surroundings of a run


def test_a_run_sees_its_own_environment_its_mark_and_nothing_else(run, tmp_path):
    os.environ["INCUMBENT_TEST_SECRET"] = "secret"
    try:
        report = run(argv=("env",), env={"INCUMBENT_SEED": "7"})
    finally:
        del os.environ["INCUMBENT_TEST_SECRET"]
    lines = set(report.tail.split("\n")) - {""}
    assert lines == {
        f"PATH={os.environ['PATH']}",
        "INCUMBENT_SEED=7",
        f"INCUMBENT_TRIAL=study/{tmp_path.name}/e1.1",
    }


def test_a_run_has_no_input_and_no_descriptor_of_ours(run):
    report = run("""
import os
print(repr(os.read(0, 10)), sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1])
""")
    assert report.tail == "b'' [0, 1, 2]\n"


def test_a_run_has_default_signals_and_is_the_kernels_preferred_victim(run):
    own = int(Path("/proc/self/oom_score_adj").read_text())
    report = run("""
import signal
print([signal.getsignal(n) for n in (15, 17, 1)] == [signal.SIG_DFL] * 3)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(open("/proc/self/oom_score_adj").read())
""")
    assert report.tail.split() == ["True", "set()", str(min(1000, own + 500))]


def test_every_run_has_a_session_of_its_own_and_one_supervisor_serves_them_all(run):
    code = "import os; print(os.getsid(0) == os.getpid() == os.getpgid(0), os.getppid())"
    said = Counter(run(code).tail for _ in range(5))
    assert len(said) == 1
    assert next(iter(said)).startswith("True")


def test_progress_comes_at_a_silent_run_too(run):
    run.start("import time; time.sleep(0.7)")
    _, progress = run.finish()
    assert progress
    assert progress[0] == RunProgress(elapsed_s=progress[0].elapsed_s, last_line="", points={})
