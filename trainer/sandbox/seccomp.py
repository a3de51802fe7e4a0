"""Which system calls a trial may make: a filter that the kernel runs before each of them.

Knows BPF, seccomp(2) and what is behind which call. Does not know bubblewrap, which installs the
program. It is a list of what is refused, since training may use anything else: what a namespace
does not separate (keys, AF_VSOCK, which in a virtual machine in the cloud reaches the host), the
parts of the kernel in which most ways out were found, and set-user-ID bits on files that stay.

Pure, and standard library only. Assembled by hand: libseccomp is not on every machine, and a filter
of comparisons needs no compiler.
"""

import errno
import struct
from collections.abc import Iterable
from itertools import chain

from trainer.sandbox.syscalls import NUMBERS, REFUSED, UNMAPPED_MEMORY

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What `uname -m` says, and AUDIT_ARCH_* of linux/audit.h, for the processors that have a table."""

# From linux/bpf_common.h, linux/filter.h and linux/seccomp.h.
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data

_X32_BIT = 0x40000000
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; NEWTIME needs clone3
_SET_ID_BITS = 0o6000
_MAKES_FILE = 0o20000100  # O_CREAT, and the bit of O_TMPFILE that O_DIRECTORY does not share
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_PROTOCOLS = (0, 1, 6, 17, 58)  # IPPROTO_{IP,ICMP,TCP,UDP,ICMPV6}; SCTP and the like load modules
_OF_TERMINALS = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX; TIOCSETD, which loads modules too

_Instruction = tuple[int, int, int, int]
"""Code, steps to skip if true, steps to skip if false, constant."""


def program(machine: str, *, strict_memory: bool) -> bytes:
    """Return the filter for processors that `uname -m` calls `machine`, an array of sock_filter.

    With `strict_memory` a trial gets no memory outside of its processes' maps. Raises ValueError
    for a machine without a table.
    """
    if machine not in MACHINES:
        raise ValueError(f"no system call filter for {machine}, only for {', '.join(MACHINES)}")
    column = list(MACHINES).index(machine)
    parts = chain(_head(machine), _body(column, strict_memory=strict_memory))
    return b"".join(struct.pack("=HBBI", *each) for each in (*parts, _end(_ALLOW)))


def _head(machine: str) -> Iterable[_Instruction]:
    """Refuse calls by other tables than ours: 32-bit ones, which have other numbers, and x32."""
    yield (_LOAD, 0, 0, _MACHINE_AT)
    yield (_IF_EQUAL, 1, 0, MACHINES[machine])
    yield _end(_KILL_PROCESS)
    yield (_LOAD, 0, 0, _NUMBER_AT)
    if machine == "x86_64":
        yield (_IF_AT_LEAST, 0, 1, _X32_BIT)
        yield _fail(errno.ENOSYS)


def _body(column: int, *, strict_memory: bool) -> Iterable[_Instruction]:
    def rule(name: str, then: Iterable[_Instruction]) -> Iterable[_Instruction]:
        """Do `then`, which ends in a return, if it is this call."""
        number = NUMBERS[name][column]
        steps = tuple(then)
        return () if number is None else ((_IF_EQUAL, 0, len(steps), number), *steps)

    for name in (*REFUSED, *(sorted(UNMAPPED_MEMORY) if strict_memory else ())):
        yield from rule(name, [_fail(errno.EPERM)])
    # Their arguments are behind a pointer, where no filter sees them. All who use them fall back.
    for name in ("clone3", "openat2", "fchmodat2"):
        yield from rule(name, [_fail(errno.ENOSYS)])
    yield from rule("clone", _refuse_bits(0, _NEW_NAMESPACES))
    for name, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("creat", 1)):
        yield from rule(name, _refuse_bits(argument, _SET_ID_BITS))
    for name, argument in (("mknod", 1), ("mknodat", 2)):
        yield from rule(name, _refuse_bits(argument, _SET_ID_BITS))
    for name, flags in (("open", 1), ("openat", 2)):
        # Where nothing is made, no mode need be passed: what is found there means nothing.
        makes = (_load_low(flags), (_IF_ANY_BIT, 1, 0, _MAKES_FILE), _end(_ALLOW))
        yield from rule(name, [*makes, *_refuse_bits(flags + 1, _SET_ID_BITS)])
    yield from rule("ioctl", _refuse_values(1, _OF_TERMINALS))
    yield from rule("socket", _only_local_and_internet())
    # It makes both sockets before it finds that their family cannot pair them.
    only_unix = (_load_low(0), (_IF_EQUAL, 1, 0, _UNIX), _fail(errno.EAFNOSUPPORT), _end(_ALLOW))
    yield from rule("socketpair", only_unix)


def _refuse_bits(argument: int, bits: int) -> tuple[_Instruction, ...]:
    return (
        _load_low(argument),
        (_IF_ANY_BIT, 0, 1, bits),
        _fail(errno.EPERM),
        _end(_ALLOW),
    )


def _refuse_values(argument: int, values: Iterable[int]) -> tuple[_Instruction, ...]:
    tests = chain.from_iterable(((_IF_EQUAL, 0, 1, v), _fail(errno.EPERM)) for v in values)
    return (_load_low(argument), *tests, _end(_ALLOW))


def _only_local_and_internet() -> tuple[_Instruction, ...]:
    """Allow the families that the network namespace confines, and asking for its interfaces.

    Of the internet's protocols those that training speaks: most others are seldom tested code.
    """
    protocols = [(_IF_EQUAL, len(_PROTOCOLS) - n, 0, p) for n, p in enumerate(_PROTOCOLS)]
    internet = (_load_low(2), *protocols, _fail(errno.EPROTONOSUPPORT), _end(_ALLOW))
    return (
        _load_low(0),
        (_IF_EQUAL, 6, 0, _UNIX),
        (_IF_EQUAL, 6, 0, _INET),
        (_IF_EQUAL, 5, 0, _INET6),
        (_IF_EQUAL, 0, 2, _NETLINK),
        _load_low(2),
        (_IF_EQUAL, 1, 0, 0),  # NETLINK_ROUTE
        _fail(errno.EAFNOSUPPORT),
        _end(_ALLOW),
        *internet,
    )


def _load_low(argument: int) -> _Instruction:
    """Load the lower half of an argument: those that are looked at are no wider."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)  # both processors are little-endian


def _fail(code: int) -> _Instruction:
    return _end(_ERRNO | code)


def _end(action: int) -> _Instruction:
    return (_RETURN, 0, 0, action)
