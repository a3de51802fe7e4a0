"""Bombs: real trials that take too much, under a real supervisor, limited in both ways.

Every bomb is bounded, so that a limit that fails hurts nobody: 1 GB, 400 processes, 3,000 files.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from eval.metric import Goal, Metric
from trainer.control_group import NoControlGroups, find_place
from trainer.run_records import EndedBy, Enforcement, Limits, RunReport, RunRequest
from trainer.supervisor_client import Supervisor

METRIC = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
PATIENCE_S = 60.0
MB = 1_000_000
ROOT = Path(__file__).resolve().parents[2]
WITHOUT_GROUPS = f"""\
#!{sys.executable} -IS
import sys
sys.path.append({str(ROOT)!r})
import trainer.limits
from trainer.control_group import NoControlGroups
def none():
    raise NoControlGroups
trainer.limits.find_place = none
from trainer.supervisor import main
sys.argv = ["-c", sys.argv[-1]]
main()
"""
"""Stands in for the interpreter; then what it runs is a supervisor that can make no groups."""
AS_NOBODY = """\
#!/bin/sh
exec setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 "$@"
"""
HOLD = "\nimport time; time.sleep(600)\n"


def place():
    try:
        return find_place()
    except NoControlGroups:
        return None


def groups(slot):
    """The names of a slot's control groups."""
    sign = "%2f" + slot.replace("_", "%5f") + "."
    names = {each.name for folder in place().folders for each in folder.iterdir()}
    return {name for name in names if sign in name}


def until(condition):
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@pytest.fixture(params=["cgroup", "watchdog"])
def enforcement(request):
    if request.param == "watchdog":
        return Enforcement.WATCHDOG
    found = place()
    if found is None:
        pytest.skip("no control groups can be made here")
    return found.enforcement


@pytest.fixture
def supervisor(enforcement, tmp_path):
    python = sys.executable
    if enforcement is Enforcement.WATCHDOG:
        wrapper = tmp_path / "python"
        wrapper.write_text(WITHOUT_GROUPS)
        wrapper.chmod(0o755)
        python = str(wrapper)
    with closing(Supervisor(python=python)) as supervisor:
        yield supervisor


@pytest.fixture
def plain_user():
    """A supervisor of a user who is not root, and a folder that it may write to."""
    with tempfile.TemporaryDirectory(prefix="incumbent-test-") as name:
        folder, python = Path(name), sys.executable
        (folder / "src").mkdir()
        if os.geteuid() == 0:
            python = str(folder / "python")
            Path(python).write_text(AS_NOBODY)
            for each, mode in ((folder, 0o777), (folder / "src", 0o777), (Path(python), 0o755)):
                each.chmod(mode)
            probe = [python, "-c", f"import sys; sys.path.append({str(ROOT)!r}); import trainer"]
            if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
                pytest.skip("another user has no Python 3.11 here, or may not read this checkout")
        with closing(Supervisor(python=python)) as supervisor:
            yield supervisor, folder


@pytest.fixture
def run(supervisor, enforcement, tmp_path):
    """Run Python code within limits, in a folder that is watched; return the report."""
    src = tmp_path / "src"
    src.mkdir()

    def run(code, *, timeout_s=PATIENCE_S, argv=None, **limits):
        supervisor.start(request(code, tmp_path, timeout_s=timeout_s, argv=argv, **limits))
        report = finish(supervisor)
        assert report.limits_by is enforcement
        return report

    run.src, run.supervisor = src, supervisor
    return run


def request(code, folder, *, timeout_s=PATIENCE_S, name="e1.1", argv=None, **limits):
    return RunRequest(
        argv=argv or (sys.executable, "-ISc", code),
        cwd=str(folder / "src"),
        env={"PATH": os.environ["PATH"]},
        log_path=str(folder / f"{name}.log"),
        timeout_s=timeout_s,
        metric=METRIC,
        mark=f"study/{folder.name}/{name}",
        limits=Limits(folders=(str(folder / "src"),), **limits),
        grace_s=0.5,
    )


def finish(supervisor):
    while not isinstance(news := supervisor.poll(PATIENCE_S), RunReport):
        assert news is not None
    return news


# Memory

MEMORY_BOMBS = {
    "heap": "kept = [bytearray(20 << 20) for _ in range(50)]",
    "slow heap": """
import time
kept = []
for _ in range(50):
    kept.append(bytearray(20 << 20))
    time.sleep(0.02)
""",
    "shared mapping": """
import mmap
kept = mmap.mmap(-1, 1000 << 20)
for _ in range(1000): kept.write(b"x" * (1 << 20))
""",
    "six children": """
import os, time
for _ in range(6):
    if os.fork() == 0:
        kept = bytearray(100 << 20)
        time.sleep(600)
""",
}


@pytest.mark.parametrize("bomb", MEMORY_BOMBS)
def test_more_memory_than_the_limit_is_the_end(run, bomb):
    report = run(MEMORY_BOMBS[bomb] + HOLD, memory_bytes=200 * MB)
    assert report.ended_by is EndedBy.MEMORY
    assert report.problem == "used more than memory_gb = 0.2"
    assert report.peak_memory_mb >= 190
    assert report.exit_code == -signal.SIGKILL
    assert report.wall_s < PATIENCE_S / 2


@pytest.mark.parametrize("enforcement", ["cgroup"], indirect=True)
@pytest.mark.parametrize("bomb", ["memfd", "tmpfs"])
def test_a_control_group_sees_memory_that_no_mapping_shows(run, bomb):
    open_it = "os.memfd_create('bomb')"
    if bomb == "tmpfs":
        open_it = "os.open('/dev/shm', os.O_TMPFILE | os.O_RDWR)"
    code = f"import os\nfd = {open_it}\nfor _ in range(1000): os.write(fd, b'x' * (1 << 20))"
    report = run(code + HOLD, memory_bytes=200 * MB)
    assert report.ended_by is EndedBy.MEMORY


def test_memory_below_the_limit_is_measured_and_memory_that_is_shared_counts_once(run):
    report = run(
        """
import os, time
shared = bytearray(b"x") * (100 << 20)
children = [os.fork() for _ in range(3)]
if all(children):
    time.sleep(4)
    for child in children: os.kill(child, 9)
    print("val_bpb: 1")
else:
    time.sleep(600)
""",
        memory_bytes=200 * MB,
    )
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "1")
    assert 100 <= report.peak_memory_mb < 190


def test_cached_files_are_no_memory(run):
    code = """
import time
with open("file", "wb") as file:
    for _ in range(250): file.write(b"x" * 1_000_000)
time.sleep(0.6)
print("val_bpb: 1")
"""
    report = run(code, memory_bytes=200 * MB)
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "1")
    assert report.peak_memory_mb < 60


def test_address_space_is_no_memory(run):
    """CUDA reserves many times what the machine has."""
    report = run(
        "import mmap, time\nkept = mmap.mmap(-1, 1 << 40, flags=0x4022, prot=0)\n"
        "time.sleep(0.6)\nprint('val_bpb: 1')",
        memory_bytes=100 * MB,
    )
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "1")


# Processes

FORK_BOMB = """
import os, time
for _ in range(400):
    try:
        if os.fork() == 0: time.sleep(600)
    except OSError: pass
"""
THREAD_BOMB = """
import threading, time
for _ in range(400):
    try: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    except RuntimeError: pass
"""


@pytest.mark.parametrize("bomb", [FORK_BOMB, THREAD_BOMB], ids=["fork", "thread"])
def test_more_processes_or_threads_than_the_limit_are_the_end(run, bomb):
    report = run(bomb + HOLD, pids=64)
    assert report.ended_by is EndedBy.PIDS
    assert report.problem == "had more processes and threads than pids = 64"
    assert report.leftover_processes <= 400


def test_processes_of_all_threads_are_found(run):
    code = """
import os, threading, time
def fork():
    if os.fork() == 0: time.sleep(600)
    time.sleep(600)
for _ in range(40): threading.Thread(target=fork, daemon=True).start()
"""
    assert run(code + HOLD, pids=60).ended_by is EndedBy.PIDS


def test_as_many_processes_as_the_limit_are_fine(run):
    code = """
import os, time
children = []
for _ in range(40):
    child = os.fork()
    if child == 0: time.sleep(600)
    children.append(child)
time.sleep(0.6)
for child in children:
    os.kill(child, 9)
    os.wait()
print("val_bpb: 1")
"""
    report = run(code, pids=64)
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "1")


def test_in_a_user_namespace_the_kernel_refuses_what_comes_between_two_looks(plain_user):
    supervisor, folder = plain_user
    code = """
import os, resource, time
before = resource.getrlimit(resource.RLIMIT_NPROC)
while resource.getrlimit(resource.RLIMIT_NPROC) == before: time.sleep(0.005)
made = 0
try:
    while made < 400:
        if os.fork() == 0: time.sleep(600)
        made += 1
except BlockingIOError: pass
print("made", made, flush=True)
time.sleep(600)
"""
    if subprocess.run(["unshare", "--user", "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    argv = ("unshare", "--user", "/usr/bin/python3", "-ISc", code)
    supervisor.start(request("", folder, argv=argv, pids=64, timeout_s=20))
    report = finish(supervisor)
    assert report.ended_by is EndedBy.PIDS
    assert 64 <= int(report.tail.split()[-1]) < 64 + 16


# Disk and open files

DISK_BOMBS = {
    "bytes": (
        "for n in range(100):\n open(f'f{n}', 'wb').write(b'x' * 10_000_000)",
        "held more than disk_gb = 0.2",
    ),
    "files": (
        "for n in range(3000):\n open(f'{n}', 'w')",
        "had more files than disk_files = 1000",
    ),
}


@pytest.mark.parametrize("bomb", DISK_BOMBS)
@pytest.mark.parametrize("end", [HOLD, "\nprint('val_bpb: 1')"], ids=["hold", "leave"])
def test_more_on_disk_than_the_limit_is_the_end_even_if_nobody_saw_it_in_time(run, bomb, end):
    code, reason = DISK_BOMBS[bomb]
    report = run(code + end, disk_bytes=200 * MB, disk_files=1000)
    assert (report.ended_by, report.problem) == (EndedBy.DISK, reason)
    assert report.wall_s < PATIENCE_S / 2


def test_holes_and_second_names_take_no_space(run):
    code = """
import os, time
for n in range(9):
    with open(f"sparse{n}", "wb") as file: file.truncate(190_000_000)
open("real", "wb").write(b"x" * 60_000_000)
for n in range(9): os.link("real", f"name{n}")
time.sleep(0.6)
print("val_bpb: 1")
"""
    report = run(code, disk_bytes=200 * MB, disk_files=100)
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "1")


def test_no_single_file_grows_beyond_the_limit(run):
    report = run("open('f', 'wb').truncate(300_000_000)", disk_bytes=200 * MB)
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, 1)
    assert "File too large" in report.tail


def test_a_folder_that_cannot_be_looked_into_is_a_breach(plain_user):
    supervisor, folder = plain_user
    code = "import os\nos.mkdir('d')\nos.chmod('d', 0)" + HOLD
    argv = ("/usr/bin/python3", "-ISc", code)
    supervisor.start(request("", folder, argv=argv, disk_bytes=200 * MB))
    report = finish(supervisor)
    (folder / "src" / "d").chmod(0o700)
    assert (report.ended_by, report.problem[:12]) == (EndedBy.DISK, "hid a folder")


def test_a_trial_can_open_no_more_files_than_it_may_and_leaves_no_core(run):
    code = """
import os, resource
kept = []
try:
    while True: kept.append(os.open("/dev/null", 0))
except OSError as error: print(error.strerror, len(kept))
print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    report = run(code, open_files=100)
    assert report.tail.startswith("Too many open files 9")
    assert report.tail.endswith("(1, 1)\n")


# All of it together


def test_a_neighbour_is_not_harmed(run, tmp_path):
    other = tmp_path / "other"
    (other / "src").mkdir(parents=True)
    with closing(Supervisor()) as neighbour:
        code = "kept = bytearray(100 << 20)\nimport os, time\n"
        code += "while not os.path.exists('go'): time.sleep(0.01)\nprint('val_bpb: 1')"
        neighbour.start(request(code, other, memory_bytes=200 * MB, pids=64))
        for bomb in (MEMORY_BOMBS["heap"], FORK_BOMB, DISK_BOMBS["bytes"][0]):
            report = run(bomb + HOLD, memory_bytes=200 * MB, pids=64, disk_bytes=200 * MB)
            assert report.ended_by in {EndedBy.MEMORY, EndedBy.PIDS, EndedBy.DISK}
        (other / "src" / "go").touch()
        report = finish(neighbour)
    assert (report.ended_by, report.metric_text) == (EndedBy.EXIT, "1")


@pytest.mark.parametrize("enforcement", ["cgroup"], indirect=True)
def test_no_group_is_left_and_that_of_a_killed_supervisor_goes_with_the_next_run(run, tmp_path):
    code = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "600"], {})  # without the mark by which others find it
    os._exit(0)
os.wait()
open("up", "w").close()
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(600)
"""
    run.supervisor.start(request(code, tmp_path, memory_bytes=200 * MB))
    assert finish(run.supervisor).ended_by is EndedBy.SUPERVISOR_LOST
    assert len(groups(tmp_path.name)) == 1
    assert run("print('val_bpb: 1')", memory_bytes=200 * MB).metric_text == "1"
    run.supervisor.close()
    until(lambda: not groups(tmp_path.name))


def test_the_time_limit_and_the_log_are_as_ever(run):
    report = run("while True: print('x' * 1000)", timeout_s=1.0, memory_bytes=200 * MB, pids=64)
    assert report.ended_by is EndedBy.TIMEOUT
    assert report.log_dropped > 0


def test_a_run_without_limits_has_none(supervisor, tmp_path):
    (tmp_path / "src").mkdir()
    values = request("print('val_bpb: 1')", tmp_path)
    supervisor.start(RunRequest.from_dict({**values.to_dict(), "limits": None}))
    report = finish(supervisor)
    assert (report.metric_text, report.limits_by, report.peak_memory_mb) == ("1", None, 0.0)
