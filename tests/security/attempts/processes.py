"""Attempts on other processes and on rights over them."""

import signal
from functools import partial

from tests.security.attempt import Aftermath, Attempt, Category, Control

_attempt = partial(Attempt, category=Category.PROCESSES)


def harms_the_victim(aftermath: Aftermath) -> str:
    """See whether another process of the user was ended or stopped; let it go on."""
    if aftermath.world.is_victim_well():
        return ""
    aftermath.world.victim.send_signal(signal.SIGCONT)
    return "the victim was stopped or ended"


_TYPE = """
import fcntl, platform, pty, termios
main, terminal = pty.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    {how}
    escaped("typed")
os.wait()
"""

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
        aim="the memory of what started it: the supervisor, or process 1 of a sandbox",
        script="""
def open_memory(pid):
    with open(f"/proc/{pid}/maps") as maps:
        begin = next(int(line.split("-")[0], 16) for line in maps if " rw-p " in line)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    return f"{len(os.pread(memory, 8, begin))} bytes of {pid}, open for writing"
any_of({os.getppid(), 1} - {os.getpid()}, open_memory, "it is not to be seen")
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
        script=_TYPE.format(how='fcntl.ioctl(terminal, termios.TIOCSTI, b"x")'),
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="typed_with_high_bits",
        aim="the same by a number that a filter of 64 bits takes for another (CVE-2019-10063)",
        script=_TYPE.format(
            how="raw(29 if platform.machine() == 'aarch64' else 16, terminal,"
            " termios.TIOCSTI | 1 << 32, ctypes.byref(ctypes.c_char(b'x')))  # ioctl"
        ),
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="controlling_terminal",
        aim="the terminal that the worker was started from",
        script="""
for pid in {os.getpid(), os.getppid(), 1}:
    for number in range(3):
        if not os.access(f"/proc/{pid}/fd/{number}", os.F_OK): continue
        at = os.readlink(f"/proc/{pid}/fd/{number}")
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
