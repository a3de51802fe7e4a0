import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.process_tree import MARK_VARIABLE, count_oom_kills, sweep, sweep_run

REPOSITORY = Path(__file__).resolve().parents[2]
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def spawn():
    """Start a sleeping process with a mark, in an environment otherwise empty."""
    started = []

    def start(mark, code=SLEEP):
        process = subprocess.Popen([sys.executable, "-ISc", code], env={MARK_VARIABLE: mark})
        started.append(process)
        # Until exec the child still shows the environment of this process.
        wanted = f"{MARK_VARIABLE}={mark}".encode()
        while wanted not in Path(f"/proc/{process.pid}/environ").read_bytes():
            time.sleep(0.001)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def as_subreaper(code):
    """Run code in a process of its own, as `end_descendants` takes in whatever it is parent of."""
    program = f"""
import os, signal, subprocess, sys, time
sys.path.append({str(REPOSITORY)!r})
from trainer.process_tree import *
become_subreaper()
def start(code):
    return subprocess.Popen([sys.executable, "-ISc", code], stdout=subprocess.PIPE)
{code}
"""
    done = subprocess.run(
        [sys.executable, "-ISc", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_sweep_kills_its_own_slot_and_no_other(spawn):
    ours = [spawn("study/cpu-1/e1.1"), spawn("study/cpu-1/e2.1")]
    others = [spawn("study/cpu-10/e1.1"), spawn("study2/cpu-1/e1.1"), spawn("a/study/cpu-1/e1.1")]
    assert sweep("study/cpu-1/") == 2
    assert [process.wait() for process in ours] == [-signal.SIGKILL] * 2
    assert [process.poll() for process in others] == [None] * 3


def test_a_sweep_of_one_run_leaves_the_next_of_its_slot(spawn):
    run, waiting = spawn("study/cpu-1/e1.1"), spawn("study/cpu-1/e1.10")
    assert sweep_run("study/cpu-1/e1.1") == 1
    assert run.wait() == -signal.SIGKILL
    assert waiting.poll() is None


def test_a_sweep_finds_children_that_ignore_sigterm(spawn, tmp_path):
    ready = tmp_path / "ready"
    code = f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
os.setsid() if os.getpid() != os.getpgid(0) else None
open({str(ready)!r}, "a").write("x")
{SLEEP}
"""
    spawn("study/cpu-1/e1.1", code)
    while not ready.exists() or ready.stat().st_size < 2:
        time.sleep(0.005)
    assert sweep("study/cpu-1/") == 2


def test_a_sweep_without_leftovers_returns_at_once():
    assert sweep("no such study/cpu-1/") == 0


def test_a_sweep_spares_the_process_that_calls_it():
    own = {**os.environ, MARK_VARIABLE: "own/cpu-1/e1.1"}
    code = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
from trainer.process_tree import sweep
print(sweep("own/cpu-1/"))
"""
    done = subprocess.run(
        [sys.executable, "-ISc", code], env=own, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize("prefix", ["", "study/cpu-1", "study/cpu-1/e1"])
def test_a_prefix_that_could_match_another_slot_is_refused(prefix):
    with pytest.raises(ValueError, match="slash"):
        sweep(prefix)


def test_every_descendant_ends_and_is_reaped():
    code = '''
tree = """
import os, time
for level in range(3):
    if os.fork() == 0: os.setsid()
print("up", flush=True)
time.sleep(600)
"""
process = start(tree)
for _ in range(8): process.stdout.readline()
ended, is_any_left = end_descendants()
print(len(ended), is_any_left, reap())
process.returncode = 0
'''
    assert as_subreaper(code) == ["8", "False", "([],", "False)"]


def test_a_chain_that_forks_and_exits_is_caught():
    code = '''
process = start("""
import os
print("up", flush=True)
while True:
    if os.fork(): os._exit(0)
    os.setsid()
""")
process.stdout.readline()
ended, is_any_left = end_descendants(30.0)
print(is_any_left)
process.returncode = 0
'''
    assert as_subreaper(code) == ["False"]


def test_a_stopped_process_ends_too():
    code = f'''
process = start("{SLEEP}")
os.kill(process.pid, signal.SIGSTOP)
ended, is_any_left = end_descendants()
print(ended[0].exit_code, is_any_left)
process.returncode = 0
'''
    assert as_subreaper(code) == ["-9", "False"]


def test_a_reaped_child_tells_its_exit_code_and_times():
    code = '''
process = start("""
x = bytearray(64 << 20)
while __import__('time').process_time() < 0.1: pass
raise SystemExit(7)
""")
while not (ended := reap()[0]): time.sleep(0.01)
print(ended[0].exit_code, ended[0].cpu_s >= 0.1, 64 < ended[0].max_rss_mb < 200)
process.returncode = 0
'''
    assert as_subreaper(code) == ["7", "True", "True"]


def test_a_process_whose_parent_is_gone_already_dies_at_once():
    code = """
pid = os.fork()
if pid == 0:
    die_with_parent(parent=1 if os.getppid() != 1 else 2)
    time.sleep(600)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert as_subreaper(code) == ["-9"]


def test_out_of_memory_kills_are_counted_from_the_kernels_own_number():
    found = [
        line.split()[1]
        for line in Path("/proc/vmstat").read_text().splitlines()
        if line.startswith("oom_kill ")
    ]
    assert count_oom_kills() >= int(found[0] if found else 0)
