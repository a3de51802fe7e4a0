"""What the attempts have in common; lies beside each script as `attack.py`.

Runs inside a trial, on any Python 3.11, with the standard library. A script says `from attack
import *`, does its worst, and ends by `escaped(evidence)` or `stopped(reason)`; an OSError that it
does not catch is a reason. `host` tells what an attacker may know of the world outside.
"""

import ctypes
import errno
import json
import os
import platform
import sys
from pathlib import Path

host = json.loads(Path(__file__).with_name("host.json").read_text())
out = os.environ.get("INCUMBENT_OUT", "")
token = host["nekot"][::-1].encode()
"""The secret; stored backwards, lest a search for it finds our own note."""

_NUMBERS = {  # on x86_64, on aarch64
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fchmodat2": (452, 452),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "seccomp": (317, 277),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def escaped(evidence):
    """Say that it worked, and end."""
    _end("ESCAPED", evidence)


def stopped(reason):
    """Say what stopped it, and end."""
    _end("STOPPED", reason)


def _end(word, text):
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    os.write(1, f"{word} {' '.join(str(text).split())[:160]}\n".encode("utf-8", "replace"))
    os._exit(0)


def seek(data):
    """End as escaped if the secret stands in `data`."""
    if token in (data.encode() if isinstance(data, str) else data):
        escaped("the secret " + token.decode())


def seek_file(path):
    """End as escaped if the secret stands in the file; do nothing if it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        seek(os.read(file, 1 << 20))
    except OSError:
        pass
    finally:
        os.close(file)


def kernel(name, *args):
    """Make a system call by number; raise OSError if it fails, ENOSYS where there is no number."""
    x86_64, aarch64 = _NUMBERS[name]
    number = aarch64 if platform.machine() == "aarch64" else x86_64
    return raw(number, *args)


def raw(number, *args):
    """Make the system call of this number; negative is none."""
    if number < 0:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    found = [ctypes.c_long(each) if isinstance(each, int) else each for each in args]
    result = libc.syscall(ctypes.c_long(number), *found)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def reach(name, *args):
    """Call with senseless arguments: escaped unless it is refused for want of permission.

    The kernel asks for the permission before it looks at the arguments of these calls.
    """
    try:
        kernel(name, *args)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EACCES, errno.ENOSYS}:
            raise
        escaped(f"{name} went as far as {errno.errorcode[error.errno]}")
    escaped(f"{name} worked")


def any_of(tries, act, otherwise="there is none"):
    """Escaped by the first try of which `act` returns evidence, or stopped by the last one's error.

    Stopped by `otherwise` where none raised an OSError either.
    """
    reason = otherwise
    for each in tries:
        try:
            evidence = act(each)
        except OSError as error:
            reason = errno.errorcode.get(error.errno, error)
        else:
            if evidence:
                escaped(evidence)
    stopped(reason)


def processes():
    """Return the numbers of all processes that are to be seen, but this one."""
    names = [each.name for each in Path("/proc").iterdir()]
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _on_error(kind, error, trace):
    if isinstance(error, OSError):
        stopped(errno.errorcode.get(error.errno, error))
    if isinstance(error, MemoryError):
        stopped("MemoryError")
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _on_error
