"""Attempts to reach system calls and settings that a training run never needs."""

from functools import partial

from tests.security.attempt import Attempt, Category, Control

_attempt = partial(Attempt, category=Category.KERNEL)

_MACHINE_CODE = """
import mmap
ANONYMOUS_PRIVATE_32BIT = 0x22 | 0x40
def low(size, protection):
    libc.mmap.restype = ctypes.c_void_p
    return libc.mmap(None, ctypes.c_size_t(size), protection, ANONYMOUS_PRIVATE_32BIT, -1, 0)
"""
_SET_TICK = """
import struct
ADJ_TICK = 0x4000
state = bytearray(208)
buffer = (ctypes.c_char * 208).from_buffer(state)
kernel("adjtimex", buffer)
state[:4] = struct.pack("I", ADJ_TICK)  # the length of a tick, as it is
kernel("adjtimex", buffer)
escaped("set to what it is")
"""

ATTEMPTS = (
    *(
        _attempt(
            name=f"new_namespace_by_{name}",
            aim=f"a user namespace of its own, in which it is root, by {name}",
            script=script,
            absent=frozenset({"ENOSYS"}),
        )
        for name, script in {
            "unshare": "kernel('unshare', 0x10000000)\nescaped('root in a namespace')\n",
            "clone": """
CLONE_NEWUSER, SIGCHLD = 0x10000000, 17
child = kernel("clone", CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
if child == 0: os._exit(0)
os.waitpid(child, 0)
escaped("a child that is root in a namespace")
""",
            "clone3": """
import struct
arguments = struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
child = kernel("clone3", arguments, len(arguments))
if child == 0: os._exit(0)
os.waitpid(child, 0)
escaped("a child that is root in a namespace")
""",
        }.items()
    ),
    _attempt(
        name="time_namespace",
        aim="a clock of its own, to have trained for less time",
        script="kernel('unshare', 0x80)\nescaped('a time namespace')\n",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"EINVAL"}),
    ),
    _attempt(
        name="namespaces_of_its_ancestors",
        aim="to join the namespaces of the first process it sees",
        script="""
names = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
def join(at):
    if os.readlink(at) == os.readlink(f"/proc/self/ns/{os.path.basename(at)}"):
        kernel("setns", os.open(at, os.O_RDONLY), 0)
    return at
any_of([f"/proc/{pid}/ns/{name}" for pid in (1, os.getppid()) for name in names], join)
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="io_uring",
        aim="io_uring, which does the work of other system calls past their filter",
        script="kernel('io_uring_setup', 4, bytes(120))\nescaped('a ring')\n",
        absent=frozenset({"ENOSYS", "EPERM"}),
    ),
    _attempt(
        name="bpf",
        aim="programs of its own in the kernel",
        script="""
import struct
BPF_MAP_CREATE, BPF_MAP_TYPE_ARRAY = 0, 2
attributes = struct.pack("IIII", BPF_MAP_TYPE_ARRAY, 4, 4, 1) + bytes(112)
kernel("bpf", BPF_MAP_CREATE, attributes, len(attributes))
escaped("a map")
""",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="perf_events",
        aim="counters and traces of what runs beside it",
        script="""
import struct
PERF_TYPE_SOFTWARE = 1
attributes = bytearray(struct.pack("IIQ", PERF_TYPE_SOFTWARE, 112, 0) + bytes(96))
attributes[40:48] = struct.pack("Q", 0x60)  # without kernel and hypervisor
kernel("perf_event_open", bytes(attributes), 0, -1, -1, 0)
escaped("a counter")
""",
        capability="CAP_PERFMON",
        absent=frozenset({"ENOSYS", "ENOENT"}),
    ),
    _attempt(
        name="userfaultfd",
        aim="to stop the kernel in the middle of a copy, as exploits do",
        script="""
try:
    os.open("/dev/userfaultfd", os.O_RDWR)
    escaped("/dev/userfaultfd")
except OSError:
    pass
USER_MODE_ONLY = 1
kernel("userfaultfd", USER_MODE_ONLY)
escaped("userfaultfd")
""",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="keys",
        aim="to keep something in the kernel's key rings, beyond its end",
        script="""
KEY_SPEC_PROCESS_KEYRING = -2
key = kernel("add_key", b"user", b"incumbent", b"data", 4, KEY_SPEC_PROCESS_KEYRING)
escaped(f"key {key}")
""",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="crypto_sockets",
        aim="the kernel's cryptography, by AF_ALG",
        script="import socket\nsocket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)\n"
        "escaped('AF_ALG')\n",
        absent=frozenset({"EAFNOSUPPORT"}),
    ),
    _attempt(
        name="rare_sockets",
        aim="any other family of sockets, most of them seldom tested code",
        script="""
import socket
known = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
found = []
for family in range(50):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
        try:
            if family not in known: found.append(socket.socket(family, kind).family)
        except OSError:
            pass
escaped(found) if found else stopped("none")
""",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="pairs_of_rare_sockets",
        aim="the same by socketpair, which makes both before it finds that they do not go in pairs",
        script="""
found = []
for family in range(50):
    if family != 1 and libc.socketpair(family, 2, 0, (ctypes.c_int * 2)()) != 0:
        if ctypes.get_errno() == errno.EOPNOTSUPP: found.append(family)
escaped(found) if found else stopped("none")
""",
    ),
    _attempt(
        name="rare_protocols",
        aim="SCTP, DCCP, MPTCP and the like, most of them modules that are loaded when asked for",
        script="""
import socket
found = []
for protocol in (33, 115, 132, 136, 262):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, 6):
        try:
            found.append(socket.socket(socket.AF_INET, kind, protocol).proto)
        except OSError:
            pass
escaped(found) if found else stopped("none")
""",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="line_disciplines",
        aim="what the kernel can make of a terminal: modems, buses, most of it modules",
        script="""
import fcntl
TIOCSETD, N_TTY = 0x5423, 0
_, terminal = os.openpty()
fcntl.ioctl(terminal, TIOCSETD, N_TTY.to_bytes(4, "little"))
escaped("a discipline of its choice")
""",
    ),
    _attempt(
        name="netlink",
        aim="the kernel's interfaces for sockets, audit, crypto, events and the like",
        script="""
import socket
found = []
for protocol in range(1, 23):
    try:
        found.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol).proto)
    except OSError:
        pass
escaped(found) if found else stopped("routes alone")
""",
    ),
    _attempt(
        name="core_pattern",
        aim="to have the kernel start a program as root when something crashes",
        script="""
path = "/proc/sys/kernel/core_pattern"
value = Path(path).read_text()
Path(path).write_text(value)  # as it was: this test wants to change nothing
escaped("written")
""",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"EROFS"}),
    ),
    _attempt(
        name="magic_keys",
        aim="to restart the machine by /proc/sysrq-trigger",
        script="os.open('/proc/sysrq-trigger', os.O_WRONLY)\nescaped('open for writing')\n",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"ENOENT", "EROFS"}),
    ),
    _attempt(
        name="kernel_settings",
        aim="any setting below /proc/sys, and what else in /proc is not about its own processes",
        script="""
for top in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/proc/scsi",
            "/proc/driver", "/proc/tty", "/proc/sysvipc", "/sys"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if not os.path.islink(path): os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                else: continue
            except OSError:
                continue
            escaped(path)
        if folder.count("/") > 5: break
stopped("none")
""",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="control_groups",
        aim="to change its own limits, or to name a program that the kernel starts",
        script="""
for line in Path("/proc/self/mountinfo").read_text().splitlines():
    if " - cgroup" in line:
        for folder, _, names in os.walk(line.split()[4]):
            for name in {"release_agent", "cgroup.procs", "memory.max"} & set(names):
                try:
                    os.open(os.path.join(folder, name), os.O_WRONLY)
                    escaped(os.path.join(folder, name))
                except OSError:
                    pass
stopped("none to be seen")
""",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"none to be seen"}),
    ),
    _attempt(
        name="clock",
        aim="to set the clock",
        script="import time\ntime.clock_settime(time.CLOCK_REALTIME, time.time() + 3600)\n"
        "escaped('an hour later')\n",
        control=Control.HARMLESS,
        harmless=_SET_TICK,
        why="it would change the time of this machine; the control sets what is set",
        capability="CAP_SYS_TIME",
    ),
    _attempt(
        name="clock_adjusted",
        aim="to slow the clock down",
        script=_SET_TICK,
        capability="CAP_SYS_TIME",
    ),
    *(
        _attempt(
            name=f"privileged_{name}",
            aim=f"{aim}, by {name}",
            script=f"reach('{name}', {arguments})\n",
            capability=capability,
            absent=frozenset({"ENOSYS"}),
        )
        for name, aim, arguments, capability in (
            ("reboot", "to restart the machine", "0, 0, 0, None", "CAP_SYS_BOOT"),
            ("init_module", "to load kernel code", "None, 0, b''", "CAP_SYS_MODULE"),
            ("delete_module", "to unload kernel code", "b'incumbent', 0", "CAP_SYS_MODULE"),
            ("kexec_load", "to start another kernel", "0, 99999, None, -1", "CAP_SYS_BOOT"),
            ("swapon", "to swap to a file of its own", "b'/incumbent', 0", "CAP_SYS_ADMIN"),
            ("quotactl", "to change quotas", "0x800001 << 8, b'/x', 0, None", "CAP_SYS_ADMIN"),
            ("pivot_root", "to change the root of all", "b'/x', b'/x'", "CAP_SYS_ADMIN"),
            ("ioperm", "the ports of the hardware", "0x80, 1, 0x1", "CAP_SYS_RAWIO"),
        )
    ),
    _attempt(
        name="host_renamed",
        aim="to rename the machine",
        script="name = os.uname().nodename.encode()\nkernel('sethostname', name, len(name))\n"
        "escaped('set to what it is')\n",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="system_calls_of_32_bit_programs",
        aim="the table of 32-bit system calls, past a filter that knows one table",
        script=_MACHINE_CODE
        + """
if platform.machine() != "x86_64": stopped("another machine")
GETPID = b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"  # mov eax, 20; int 0x80; ret
child = os.fork()
if child == 0:
    at = low(4096, 7)
    ctypes.memmove(at, GETPID, len(GETPID))
    os._exit(ctypes.CFUNCTYPE(ctypes.c_int)(at)() != os.getpid())
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
stopped(f"exit code {status}") if status else escaped("int 0x80 works")
""",
        absent=frozenset({"another machine", "exit code -11", "exit code 1"}),
    ),
    _attempt(
        name="system_calls_of_x32",
        aim="the table of x32 system calls, past a filter that compares numbers",
        script="""
if platform.machine() != "x86_64": stopped("another machine")
X32, UNSHARE = 0x40000000, 272
raw(X32 | UNSHARE, 0x10000000)
escaped("x32 works")
""",
        absent=frozenset({"another machine", "ENOSYS"}),
    ),
    _attempt(
        name="system_call_number_with_high_bits",
        aim="a forbidden call by a number that a filter of 32 bits takes for another",
        script="""
if platform.machine() != "x86_64": stopped("another machine")
raw(272 | 1 << 32, 0x10000000)  # unshare: the kernel looks at the low half alone
escaped("a namespace")
""",
        absent=frozenset({"another machine", "ENOSYS"}),
    ),
    _attempt(
        name="unshare_with_high_bits",
        aim="a forbidden flag beside bits that a filter of 32 bits does not look at",
        script="raw(272 if platform.machine() == 'x86_64' else 97, 0x10000000 | 1 << 40)\n"
        "escaped('a namespace')\n",
        absent=frozenset({"EINVAL"}),
    ),
    _attempt(
        name="secret_memory",
        aim="memory that neither the kernel nor a limit of resident memory sees",
        script="kernel('memfd_secret', 0)\nescaped('secret memory')\n",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="file_events",
        aim="to watch files of whole file systems, by fanotify",
        script="kernel('fanotify_init', 0, 0)\nescaped('a watch')\n",
        capability="CAP_SYS_ADMIN",
        absent=frozenset({"ENOSYS"}),
    ),
)
