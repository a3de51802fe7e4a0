"""Attempts on other processes, and on living beyond the trial's end."""

import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.security.attempt import Aftermath, Attempt, Category, Control
from trainer.run_records import EndedBy

_attempt = partial(Attempt, category=Category.PROCESSES)
_THE_SUPERVISOR_DOES = "the supervisor ends what is left, with or without a sandbox"

_DAEMON = """
import time
mark = "daemon-of-" + host["nekot"][:12] + "-" + os.urandom(4).hex()
Path(out, "mark").write_text(mark)
def daemon(*closed):
    # A session of its own, no environment, deaf to SIGTERM; ends by itself after a while.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in closed: os.close(number)
            code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(20)"
            os.execve("/usr/bin/python3", ["python3", "-ISc", code, mark], {})
        os._exit(0)
    os.wait()
    while not is_up(): time.sleep(0.005)
def is_up():
    for pid in processes():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"python3\\0-ISc"): return True
        except OSError:
            pass
"""


def lives_on(aftermath: Aftermath) -> str:
    """Look for the daemon among the processes of the whole machine, and end it."""
    mark = (aftermath.out / "mark").read_bytes()
    found = [pid for pid in _running() if mark in _command_line(pid)]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"process {found[0]} outlived its trial" if found else ""


def outstays(aftermath: Aftermath) -> str:
    """See that the time was up, and whether anything goes on."""
    assert aftermath.report.ended_by is EndedBy.TIMEOUT, aftermath.report
    return lives_on(aftermath)


def stops_the_clock(aftermath: Aftermath) -> str:
    """See whether the time limit was enforced."""
    return aftermath.said("ESCAPED") or outstays(aftermath)


def makes_the_reader_wait(aftermath: Aftermath) -> str:
    """See whether the end of the first process went unnoticed because of an open pipe."""
    lives_on(aftermath)
    return "nobody noticed the end" if aftermath.report.ended_by is not EndedBy.EXIT else ""


def beats(aftermath: Aftermath) -> str:
    """See whether somebody still writes to a file; whoever does ends when it is removed."""
    beat = aftermath.out / "beat"
    before = beat.stat().st_size
    assert before, "it never began"
    time.sleep(0.1)
    after = beat.stat().st_size
    beat.unlink()
    return f"{after - before} beats after the end" if after > before else ""


def harms_the_victim(aftermath: Aftermath) -> str:
    """See whether another process of the user was ended or stopped; let it go on."""
    if aftermath.world.is_victim_well():
        return ""
    aftermath.world.victim.send_signal(signal.SIGCONT)
    return "the victim was stopped or ended"


def _running() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


ATTEMPTS = (
    _attempt(
        name="signal_to_another_process",
        aim="to signal another process of the user",
        script="os.kill(host['victim'], 0)\nescaped('may be ended')\n",
    ),
    _attempt(
        name="signal_to_all",
        aim="to end every process that it may",
        script="os.kill(-1, 9)\n",
        judge=harms_the_victim,
        control=Control.HARMLESS,
        harmless="import signal\nos.kill(host['victim'], signal.SIGSTOP)\n",
        why="kill(-1) would end every process of this machine; one that is stopped shows as much",
    ),
    _attempt(
        name="launcher_stopped",
        aim="to stop what started it, so that no limit is enforced any more",
        script="""
import signal, time
for pid in {os.getppid(), 1}:
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        pass
os.kill(0, signal.SIGCONT)
Path(out, "mark").write_text("no-daemon-" + os.urandom(8).hex())
time.sleep(60)
""",
        judge=stops_the_clock,
        timeout_s=0.5,
        control=Control.HARMLESS,
        harmless="""
import signal, time
if os.fork():
    os.wait()
    os._exit(0)
launcher = os.getppid()
os.kill(launcher, signal.SIGSTOP)
while Path(f"/proc/{launcher}/stat").read_text().rpartition(")")[2].split()[0] != "T":
    time.sleep(0.005)
os.write(1, b"ESCAPED stopped its launcher\\n")
os.kill(launcher, signal.SIGCONT)
""",
        why="a bare trial's launcher is the supervisor, and this test would wait for ever",
    ),
    _attempt(
        name="trace_another_process",
        aim="to take another process over, by ptrace",
        script="""
PTRACE_SEIZE = 0x4206
kernel("ptrace", PTRACE_SEIZE, host["victim"], 0, 0)
escaped("seized")
""",
    ),
    _attempt(
        name="trace_its_own_child",
        aim="to use ptrace at all, whose flaws have been ways into the kernel",
        script="""
import signal
PTRACE_SEIZE = 0x4206
child = os.fork()
if child == 0:
    signal.pause()
try:
    kernel("ptrace", PTRACE_SEIZE, child, 0, 0)
finally:
    os.kill(child, signal.SIGKILL)
escaped("traced")
""",
    ),
    _attempt(
        name="memory_of_its_first_process",
        aim="to read and write the memory of what started it: supervisor, or process 1 of a sandbox",
        script="""
reason = "it is not to be seen"
for pid in {os.getppid(), 1} - {os.getpid()}:
    try:
        with open(f"/proc/{pid}/maps") as maps:
            begin = next(int(line.split("-")[0], 16) for line in maps if " rw-p " in line)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        escaped(f"{len(os.pread(memory, 8, begin))} bytes of {pid}, open for writing")
    except OSError as error:
        reason = errno.errorcode[error.errno]
stopped(reason)
""",
    ),
    _attempt(
        name="read_memory_by_system_call",
        aim="to read another process' memory, by process_vm_readv",
        script="""
import struct
buffer = ctypes.create_string_buffer(64)
here = struct.pack("QQ", ctypes.addressof(buffer), 64)
there = struct.pack("QQ", host["victim_address"], 64)
kernel("process_vm_readv", host["victim"], here, 1, there, 1, 0)
seek(buffer.raw)
stopped("something else")
""",
    ),
    _attempt(
        name="read_its_own_memory_by_system_call",
        aim="to use process_vm_readv at all",
        script="""
import struct
buffer, source = ctypes.create_string_buffer(8), ctypes.create_string_buffer(b"content")
here = struct.pack("QQ", ctypes.addressof(buffer), 8)
there = struct.pack("QQ", ctypes.addressof(source), 8)
kernel("process_vm_readv", os.getpid(), here, 1, there, 1, 0)
escaped(buffer.value)
""",
    ),
    _attempt(
        name="descriptor_of_another_process",
        aim="to take an open file from another process, by pidfd_getfd",
        script="""
victim = kernel("pidfd_open", host["victim"], 0)
escaped(os.readlink(f"/proc/self/fd/{kernel('pidfd_getfd', victim, 1, 0)}"))
""",
    ),
    _attempt(
        name="compare_with_another_process",
        aim="to learn the kernel's pointers of another process, by kcmp",
        script="""
kernel("kcmp", os.getpid(), host["victim"], 1, 0, 0)
escaped("compared")
""",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="daemon_after_the_end",
        aim="to go on in a daemon when the trial has ended",
        script=_DAEMON + "daemon(0, 1, 2)\n",
        judge=lives_on,
        control=Control.PLAIN,
        why=_THE_SUPERVISOR_DOES,
    ),
    _attempt(
        name="daemon_after_the_time_limit",
        aim="to go on in a daemon when the time is up",
        script=_DAEMON + "daemon(0, 1, 2)\ntime.sleep(60)\n",
        judge=outstays,
        timeout_s=0.5,
        control=Control.PLAIN,
        why=_THE_SUPERVISOR_DOES,
    ),
    _attempt(
        name="deaf_to_sigterm",
        aim="to ignore the request to end",
        script=_DAEMON
        + "import signal\n"
        + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + "os.execve('/usr/bin/python3', ['python3', '-ISc', 'import time; time.sleep(20)', mark],"
        + " {})\n",
        judge=outstays,
        timeout_s=0.5,
        control=Control.PLAIN,
        why=_THE_SUPERVISOR_DOES,
    ),
    _attempt(
        name="output_held_open",
        aim="to hold its output open, so that a reader waits for ever",
        script=_DAEMON + "daemon()\n",
        judge=makes_the_reader_wait,
        timeout_s=2.0,
        control=Control.PLAIN,
        why="the supervisor does not wait for the end of the output",
    ),
    _attempt(
        name="output_closed",
        aim="to close its output and go on past the time limit",
        script=_DAEMON + "for number in range(3): os.close(number)\ndaemon()\ntime.sleep(60)\n",
        judge=outstays,
        timeout_s=0.5,
        control=Control.PLAIN,
        why=_THE_SUPERVISOR_DOES,
    ),
    _attempt(
        name="comet",
        aim="to evade the end by forking and exiting without a pause",
        script="""
import time
code = '''
import os, sys, time
end = time.monotonic() + 8
while time.monotonic() < end and os.path.exists(sys.argv[1]):
    if os.fork(): os._exit(0)
    os.setsid()
    with open(sys.argv[1], "a") as file: file.write(".")
'''
Path(out, "beat").touch()
if os.fork() == 0:
    for number in range(3): os.close(number)
    os.execve("/usr/bin/python3", ["python3", "-ISc", code, out + "/beat"], {})
while not Path(out, "beat").stat().st_size: time.sleep(0.005)
""",
        judge=beats,
        control=Control.PLAIN,
        why=_THE_SUPERVISOR_DOES,
    ),
    _attempt(
        name="set_id_programs",
        aim="to gain rights by a set-user-ID program, such as su",
        script="""
for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("NoNewPrivs:"):
        stopped(line) if line.split()[1] == "1" else escaped(line)
""",
    ),
    _attempt(
        name="capabilities",
        aim="to hold, or to be able to gain, any capability",
        script="""
for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith(("CapEff:", "CapPrm:", "CapBnd:", "CapAmb:")) and line.split()[1].strip("0"):
        escaped(line)
stopped("none")
""",
    ),
    _attempt(
        name="the_users_identity",
        aim="to be root, whatever it may do",
        script="escaped('root') if 0 in os.getresuid() + os.getresgid() else stopped('not root')\n",
        capability="CAP_SETUID",
    ),
    _attempt(
        name="change_of_identity",
        aim="to become somebody else",
        script="os.setresuid(1, 1, 1)\nescaped('another user')\n",
        capability="CAP_SETUID",
    ),
    _attempt(
        name="groups_of_the_worker",
        aim="to keep a group of the worker's, such as docker or disk",
        script="""
groups = [each for each in os.getgroups() if each not in (os.getgid(), 65534)]
escaped(groups) if groups or os.getgid() == 0 else stopped("none")
""",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="real_time_priority",
        aim="to take the processor from all others, by SCHED_FIFO",
        script="os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\n"
        "os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\nescaped('SCHED_FIFO')\n",
        capability="CAP_SYS_NICE",
    ),
    _attempt(
        name="higher_priority",
        aim="to be served before others, by nice",
        script="os.setpriority(os.PRIO_PROCESS, 0, -5)\nescaped('nice -5')\n",
        capability="CAP_SYS_NICE",
    ),
    _attempt(
        name="spared_when_memory_runs_out",
        aim="to have the kernel kill others first, by oom_score_adj",
        script="""
at = Path("/proc/self/oom_score_adj")
at.write_text(str(min(0, int(at.read_text())) - 1))  # below what its worker has
escaped(f"it is {at.read_text()}")
""",
        capability="CAP_SYS_RESOURCE",
    ),
    _attempt(
        name="limits_of_another_process",
        aim="to change the limits of another process",
        script="""
import resource
resource.prlimit(host["victim"], resource.RLIMIT_NOFILE)
escaped("its limits")
""",
    ),
    _attempt(
        name="typed_into_the_terminal",
        aim="to type commands into the terminal that the worker was started from",
        script="""
import fcntl, pty, termios
main, terminal = pty.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")
    escaped("typed")
os.wait()
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="typed_with_high_bits",
        aim="the same by a request number with bits that a careless filter looks at (CVE-2019-10063)",
        script="""
import fcntl, platform, pty, termios
main, terminal = pty.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    IOCTL = 29 if platform.machine() == "aarch64" else 16
    raw(IOCTL, terminal, termios.TIOCSTI | 1 << 32, ctypes.byref(ctypes.c_char(b"x")))
    escaped("typed")
os.wait()
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="controlling_terminal",
        aim="the terminal that the worker was started from",
        script="""
for pid in {os.getpid(), os.getppid(), 1}:
    for number in range(3):
        at = os.readlink(f"/proc/{pid}/fd/{number}") if os.access(f"/proc/{pid}/fd", os.R_OK) else ""
        if at.startswith(("/dev/pts", "/dev/tty")): escaped(at)
os.open("/dev/tty", os.O_RDWR)
escaped("/dev/tty")
""",
        control=Control.HARMLESS,
        harmless="""
import fcntl, pty, termios
main, terminal = pty.openpty()
os.setsid() if os.getsid(0) != os.getpid() else None
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.open("/dev/tty", os.O_RDWR)
escaped("/dev/tty")
""",
        why="tests have no terminal that could be taken; the control makes one",
    ),
)
