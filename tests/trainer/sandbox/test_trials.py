"""Real trials in a real bwrap, as root starts them and as a plain user does."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.trainer.sandbox.conftest import Lodge
from trainer.run_records import EndedBy
from trainer.sandbox.bubblewrap import CACHE
from trainer.trial_user import TRIAL_UID

Finder = Callable[..., Any]


def test_a_trial_sees_the_system_its_own_folders_and_nothing_else(
    in_sandbox: Finder, lodge: Lodge
) -> None:
    found = in_sandbox("""
found = {name: sorted(os.listdir("/" + name)) for name in ("", "experiment", "out", "etc", "tmp")}
found["home"] = os.listdir(os.environ["HOME"])
found["cwd"] = os.getcwd()
""")
    top = {"experiment", "out", "usr", "etc", "proc", "dev", "tmp"}
    assert top <= set(found[""])
    # The home is below /tmp here.
    assert set(found[""]) - top <= {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu"}
    assert (found["experiment"], found["out"], found["home"]) == (["train.py"], [], [])
    assert found["tmp"] == sorted([lodge.folder.name, PurePosixPath(CACHE).name])
    assert found["cwd"] == "/experiment"
    assert "passwd" in found["etc"]
    assert not {"shadow", "ssh", "resolv.conf"} & set(found["etc"])


def test_it_finds_itself_by_name_and_nobody_else(in_sandbox: Finder) -> None:
    """As torchrun does, and whoever says `tcp://localhost`."""
    found = in_sandbox("""
import socket
names = ("localhost", socket.gethostname())
found = [socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0] for name in names]
found.append(open("/etc/hosts").read().split())
""")
    assert found[:2] == ["127.0.0.1", "127.0.0.1"]
    assert found[2] == ["127.0.0.1", "localhost", "trial", "::1", "localhost"]


def test_it_writes_beside_its_script_and_that_reaches_nobody(lodge: Lodge) -> None:
    report = lodge.run("""
import os
open("cache.bin", "w").write("x" * 9)
os.remove("train.py")
open(os.environ["INCUMBENT_OUT"] + "/model.bin", "w").write("weights")
""")
    assert report["exit_code"] == 0, report["tail"]
    assert report["src"] == ["cache.bin"]  # its own copy
    assert (lodge.folder / "tree" / "train.py").exists()
    assert (lodge.out / "model.bin").read_text() == "weights"
    assert (lodge.out / "model.bin").stat().st_uid == (TRIAL_UID if not lodge.uid else lodge.uid)


def test_it_starts_with_a_copy_of_compile_caches_and_changes_that_alone(
    in_sandbox: Finder, lodge: Lodge
) -> None:
    seed = lodge.folder / "seed"
    (seed / "triton").mkdir(parents=True, mode=0o700)
    (seed / "triton" / "kernel.so").write_text("compiled")
    (seed / "triton" / "kernel.so").chmod(0o600)
    for path in (seed, *seed.rglob("*")):
        os.chown(path, lodge.uid, lodge.uid)
    found = in_sandbox(
        """
path = os.environ["TRITON_CACHE_DIR"] + "/kernel.so"
found = [open(path).read()]
open(path, "w").write("poison")
open(os.environ["TORCHINDUCTOR_CACHE_DIR"] + "/more", "w").close()
""",
        seed=str(seed),
    )
    assert found == ["compiled"]
    assert (seed / "triton" / "kernel.so").read_text() == "compiled"
    cache = lodge.folder / "run" / "cache"
    assert sorted(each.name for each in cache.iterdir()) == ["more", "triton"]


@pytest.mark.parametrize("path", ["/", "/usr", "/etc", "/dev", "/proc/sys/kernel"])
def test_it_writes_nowhere_else(path: str, in_sandbox: Finder) -> None:
    found = in_sandbox(f"""
try:
    open("{path}/planted", "w")
    found = "written"
except OSError as error:
    found = error.strerror
""")
    assert found in {"Read-only file system", "Permission denied", "No such file or directory"}


def test_it_cannot_change_the_machines_switches(in_sandbox: Finder) -> None:
    """As bwrap leaves them to it where real root starts it: see trainer.sandbox.privileges."""
    found = in_sandbox("""
found = []
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"):
    try: os.close(os.open(path, os.O_WRONLY))
    except OSError as error: found.append(error.strerror)
""")
    assert len(found) == 2


def test_it_is_nobody_in_particular_with_no_rights_at_all(in_sandbox: Finder, lodge: Lodge) -> None:
    found = in_sandbox("""
import getpass, pwd
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
found = {name: status[name].split() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
found |= {"uid": os.getuid(), "groups": os.getgroups(), "name": getpass.getuser()}
found["home"] = pwd.getpwuid(os.getuid()).pw_dir == os.environ["HOME"]
""")
    uid = lodge.uid or TRIAL_UID
    assert found == {
        "CapEff": ["0" * 16],
        "CapBnd": ["0" * 16],
        "NoNewPrivs": ["1"],
        "Seccomp": ["2"],
        "uid": uid,
        "groups": [],
        "name": "trial",
        "home": True,
    }


def test_it_has_no_network_but_its_own(in_sandbox: Finder) -> None:
    found = in_sandbox("""
import socket, threading
found = [name for _, name in socket.if_nameindex()]
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].send(b"hello")).start()
found.append(socket.create_connection(server.getsockname()).recv(9).decode())
for family, place in ((socket.AF_INET, ("192.0.2.1", 80)), (40, (2, 1))):
    try: socket.socket(family).connect(place)
    except OSError as error: found.append(error.errno)
""")
    names, hello, (unreachable, no_vsock) = found[:-3], found[-3], found[-2:]
    assert names == ["lo"]
    assert hello == "hello"
    assert unreachable == 101
    assert no_vsock == 97


def test_it_sees_its_own_processes_and_no_descriptor_of_ours(in_sandbox: Finder) -> None:
    found = in_sandbox("""
found = {
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "first": os.listdir("/proc/1"),
}
""")
    assert found["pids"] == [1, 2]
    assert found["descriptors"] == [0, 1, 2]
    assert found["first"] == []


def test_its_variables_are_those_it_is_given_and_what_keeps_libraries_quiet(
    in_sandbox: Finder, lodge: Lodge
) -> None:
    found = in_sandbox("found = dict(os.environ)")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        assert found.pop(name) == "1"
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert PurePosixPath(found.pop(name)).is_relative_to(CACHE)
    assert found.pop("UV_CACHE_DIR").startswith("/tmp/")
    assert found["HOME"] == str(lodge.folder / "home")
    assert found["INCUMBENT_OUT"] == "/out"
    assert found["INCUMBENT_TRIAL"] == f"study/{lodge.folder.name}/e1.1"
    assert set(found) - {"LC_CTYPE"} == {
        "HOME",
        "INCUMBENT_OUT",
        "INCUMBENT_TRIAL",
        "LOGNAME",
        "MPLCONFIGDIR",
        "NUMBA_CACHE_DIR",
        "PATH",
        "PWD",
        "PYTHONDONTWRITEBYTECODE",
        "TMPDIR",
        "USER",
        "UV_OFFLINE",
    }


def test_data_is_at_its_place_below_the_home_and_cannot_be_changed(
    in_sandbox: Finder, lodge: Lodge
) -> None:
    data = lodge.folder / "elsewhere"
    data.mkdir()
    data.chmod(0o755)
    (data / "train.bin").write_text("tokens")
    place = str(lodge.folder / "home" / ".cache" / "autoresearch")
    found = in_sandbox(
        f"""
found = [open("{place}/train.bin").read()]
try: open("{place}/train.bin", "w")
except OSError as error: found.append(error.strerror)
open(os.environ["HOME"] + "/.cache/other", "w").write("the home itself can be written to")
""",
        shown=[[str(data), place]],
    )
    assert found == ["tokens", "Read-only file system"]
    assert [entry.name for entry in (lodge.folder / "home").iterdir()] == ["id_rsa"]


@pytest.mark.parametrize(
    ("place", "mib"), [("/dev/shm", 3), ("/tmp", 2), ('" + os.environ["HOME"] + "', 1)]
)
def test_the_private_folders_have_a_size(place: str, mib: int, in_sandbox: Finder) -> None:
    found = in_sandbox(f"""
written = 0
try:
    with open("{place}/fill", "wb", buffering=0) as file:
        while written < 100: written += file.write(bytes(1 << 20)) / (1 << 20)
except OSError as error: found = [error.strerror, written]
""")
    assert found[0] == "No space left on device"
    assert mib - 1 <= found[1] <= mib


def test_its_processes_share_memory_and_hand_each_other_descriptors(in_sandbox: Finder) -> None:
    """What data loaders and process pools do."""
    found = in_sandbox("""
import multiprocessing
from multiprocessing import reduction, shared_memory
import io
def work(pipe, name):
    shared = shared_memory.SharedMemory(name)
    shared.buf[0] = 42
    shared.close()
    reduction.send_handle(pipe, sys.stdout.fileno(), os.getppid())
found = []
for method in ("fork", "spawn", "forkserver") if __name__ == "__main__" else ():
    context = multiprocessing.get_context(method)
    shared = shared_memory.SharedMemory(create=True, size=10)
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, shared.name))
    process.start()
    os.close(reduction.recv_handle(here))
    process.join()
    found.append([shared.buf[0], process.exitcode])
    shared.close()
    shared.unlink()
""")
    assert found == [[42, 0]] * 3


def test_a_script_may_use_its_grace_to_say_goodbye(lodge: Lodge) -> None:
    report = lodge.run(
        """
import signal, sys, time
def leave(*_):
    print("loss: 0.5")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
time.sleep(600)
""",
        timeout_s=1.0,
        grace_s=60.0,
    )
    assert (report["ended_by"], report["exit_code"]) == (EndedBy.TIMEOUT, 0)
    assert report["metric_text"] == "0.5"
    assert report["wall_s"] < 30


def test_a_timeout_ends_daemons_that_ignore_sigterm(lodge: Lodge) -> None:
    report = lodge.run(
        """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execve("/usr/bin/sleep", ["sleep", "600.25"], {})
time.sleep(600)
""",
        timeout_s=1.0,
        grace_s=0.1,
    )
    assert (report["ended_by"], report["exit_code"]) == (EndedBy.TIMEOUT, -signal.SIGKILL)
    assert _sleepers("600.25") == []


def test_the_end_of_the_script_is_the_end_of_its_daemons(lodge: Lodge) -> None:
    report = lodge.run("""
import os
if os.fork() == 0:
    os.setsid()
    os.execve("/usr/bin/sleep", ["sleep", "600.5"], {})
""")
    assert (report["ended_by"], report["exit_code"]) == (EndedBy.EXIT, 0)
    assert report["wall_s"] < 30
    assert _sleepers("600.5") == []


@pytest.mark.parametrize("victim", ["supervisor", "worker"])
def test_nothing_survives_the_death_of_who_started_it(victim: str, lodge: Lodge) -> None:
    ours = f"600.75{lodge.uid}"
    process = lodge.start(f'import os; os.execv("/usr/bin/sleep", ["sleep", "{ours}"])')
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        (sleeper,) = _until(lambda: _sleepers(ours))
        chain = _ancestors(sleeper)
        if victim == "supervisor":
            os.kill(process.pid, signal.SIGSTOP)  # or it would sweep up what it finds by its mark
            victim_pid = chain[3]  # after sleep, the first of the namespace, and bwrap
        else:
            victim_pid = process.pid
        os.kill(victim_pid, signal.SIGKILL)
        _until(lambda: not _sleepers(ours))
        process.kill()


def test_a_missing_command_is_told_from_a_missing_sandbox(lodge: Lodge) -> None:
    report = lodge.run(argv=["no-such-command"])
    assert report["ended_by"] == EndedBy.NOT_STARTED
    assert report["problem"] == "no-such-command: No such file or directory"


def test_a_sandbox_that_cannot_be_made_is_not_the_scripts_fault(lodge: Lodge) -> None:
    report = lodge.run("print('loss: 1')", broken=True)
    assert report["ended_by"] == EndedBy.NO_SANDBOX
    assert "/nowhere" in report["problem"] or "No such file" in report["problem"]
    assert report["metric_text"] is None


def test_a_script_that_says_what_bwrap_says_is_still_a_script(lodge: Lodge) -> None:
    report = lodge.run("raise SystemExit('bwrap: Creating new namespace failed')")
    assert (report["ended_by"], report["exit_code"]) == (EndedBy.EXIT, 1)


def test_nothing_is_left_mounted_on_the_machine(lodge: Lodge) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    lodge.run("")
    assert Path("/proc/self/mountinfo").read_text() == before


def _sleepers(argument: str) -> list[int]:
    """Return the processes that run `sleep ARGUMENT`, in whichever namespace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == f"sleep\0{argument}\0".encode():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _ancestors(pid: int) -> list[int]:
    """Return a process and those it descends from, as long as there are any."""
    chain = []
    while pid > 1:
        chain.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return chain


def _until(condition: Callable[[], Any]) -> Any:
    give_up_at = time.monotonic() + 60.0
    while not (found := condition()):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    return found
