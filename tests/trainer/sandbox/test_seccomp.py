"""What the filter answers to which system call, by running its instructions as the kernel would.

The kernel of the machine that runs the tests proves one processor, in test_trials; this proves both
tables. That of aarch64 was never run by a kernel.
"""

import errno
import re
import struct
from pathlib import Path

import pytest

from trainer.sandbox.seccomp import MACHINES, program
from trainer.sandbox.syscalls import NUMBERS, REFUSED

ALLOWED, KILLED = "allowed", "killed"
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK = 1, 2, 10, 16, 17, 38, 40
O_RDONLY, O_CREAT, O_TMPFILE_X86, O_TMPFILE_ARM = 0, 0o100, 0o20200000, 0o20040000
CLONE_THREAD_FLAGS = 0x3D0F00


def run(machine: str, number: int, *arguments: int, audit: int | None = None, strict=True) -> str:
    """Interpret the filter on one struct seccomp_data."""
    data = struct.pack(
        "=iIQ6Q", number, audit or MACHINES[machine], 0, *arguments, *[0] * (6 - len(arguments))
    )
    code = program(machine, strict_memory=strict)
    steps = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    accumulator = at = 0
    while True:
        op, if_true, if_false, k = steps[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif op == 0x06:
            break
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[
                op
            ]
            at += if_true if holds else if_false
    if k == 0x7FFF0000:
        return ALLOWED
    return KILLED if k == 0x80000000 else errno.errorcode[k - 0x50000]


def call(machine: str, name: str, *arguments: int, strict: bool = True) -> str:
    number = NUMBERS[name][list(MACHINES).index(machine)]
    assert number is not None
    return run(machine, number, *arguments, strict=strict)


machines = pytest.mark.parametrize("machine", MACHINES)


@machines
def test_what_training_needs_is_allowed(machine: str) -> None:
    reads = {"x86_64": (0, 1, 9, 202, 59), "aarch64": (63, 64, 222, 98, 221)}[machine]
    assert [run(machine, number) for number in reads] == [ALLOWED] * 5
    assert call(machine, "clone", CLONE_THREAD_FLAGS) == ALLOWED
    assert call(machine, "openat", 0, 0, O_CREAT, 0o666) == ALLOWED
    assert call(machine, "fchmodat", 0, 0, 0o755) == ALLOWED
    assert call(machine, "ioctl", 1, 0x5413) == ALLOWED
    for family in (AF_UNIX, AF_INET, AF_INET6):
        for protocol in (0, 6, 17):
            assert call(machine, "socket", family, 1, protocol) == ALLOWED
    assert call(machine, "socketpair", AF_UNIX, 1, 0) == ALLOWED
    assert call(machine, "socket", AF_NETLINK, 3, 0) == ALLOWED


@machines
def test_what_no_trial_may_do_is_refused(machine: str) -> None:
    column = list(MACHINES).index(machine)
    answers = {n: call(machine, n) for n in REFUSED if NUMBERS[n][column] is not None}
    assert set(answers.values()) == {"EPERM"}
    known = {"ptrace", "mount", "unshare", "bpf", "io_uring_setup", "io_setup", "keyctl"}
    assert known <= set(answers)


@machines
def test_calls_that_hide_their_arguments_do_not_exist(machine: str) -> None:
    for name in ("clone3", "openat2", "fchmodat2"):
        assert call(machine, name) == "ENOSYS"


@machines
@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_no_new_namespace(machine: str, bit: int) -> None:
    assert call(machine, "clone", 1 << bit | 17) == "EPERM"


@machines
@pytest.mark.parametrize("family", [AF_PACKET, AF_ALG, AF_VSOCK, 0, 31, 44])
def test_no_socket_that_the_network_namespace_does_not_confine(machine: str, family: int) -> None:
    assert call(machine, "socket", family, 1, 0) == "EAFNOSUPPORT"
    assert call(machine, "socketpair", family, 1, 0) == "EAFNOSUPPORT"
    assert call(machine, "socket", AF_NETLINK, 3, 9) == "EAFNOSUPPORT"  # audit


@machines
@pytest.mark.parametrize("protocol", [2, 33, 115, 132, 136, 255, 262])  # DCCP, L2TP, SCTP, MPTCP
def test_no_protocol_that_training_does_not_speak(machine: str, protocol: int) -> None:
    assert call(machine, "socket", AF_INET, 1, protocol) == "EPROTONOSUPPORT"
    assert call(machine, "socket", AF_INET6, 1, protocol) == "EPROTONOSUPPORT"
    assert call(machine, "socketpair", AF_INET, 1, protocol) == "EAFNOSUPPORT"


@machines
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6000])
def test_no_set_user_id_bit_on_any_file(machine: str, mode: int) -> None:
    tmpfile = O_TMPFILE_X86 if machine == "x86_64" else O_TMPFILE_ARM
    assert call(machine, "fchmod", 3, mode) == "EPERM"
    assert call(machine, "fchmodat", 0, 0, mode) == "EPERM"
    assert call(machine, "mknodat", 0, 0, mode) == "EPERM"
    assert call(machine, "openat", 0, 0, O_CREAT, mode) == "EPERM"
    assert call(machine, "openat", 0, 0, tmpfile, mode) == "EPERM"
    # Where nothing is made, the mode is whatever lay in the register.
    assert call(machine, "openat", 0, 0, O_RDONLY, mode) == ALLOWED
    if machine == "x86_64":
        assert call(machine, "chmod", 0, mode) == "EPERM"
        assert call(machine, "creat", 0, mode) == "EPERM"
        assert call(machine, "mknod", 0, mode) == "EPERM"
        assert call(machine, "open", 0, O_CREAT, mode) == "EPERM"


@machines
def test_no_typing_into_a_terminal_nor_another_discipline_for_it(machine: str) -> None:
    # The kernel takes the lower half of the argument alone.
    assert call(machine, "ioctl", 0, 0x5412) == "EPERM"
    assert call(machine, "ioctl", 0, 0xFF00000000 | 0x5412) == "EPERM"
    assert call(machine, "ioctl", 0, 0x541C) == "EPERM"
    assert call(machine, "ioctl", 0, 0x5423) == "EPERM"


@machines
def test_unmapped_memory_is_refused_where_nothing_counts_it(machine: str) -> None:
    for name in ("memfd_create", "shmget", "semget", "msgget"):
        assert call(machine, name) == "EPERM"
        assert call(machine, name, strict=False) == ALLOWED
    assert call(machine, "memfd_secret", strict=False) == "EPERM"  # not even a debugger sees it


@machines
def test_calls_of_another_table_end_the_process(machine: str) -> None:
    other = next(value for name, value in MACHINES.items() if name != machine)
    assert run(machine, 0, audit=other) == KILLED
    assert run(machine, 0, audit=0x40000003) == KILLED  # i386


def test_x32_does_not_exist() -> None:
    assert run("x86_64", 0x40000000 | 101) == "ENOSYS"


def test_a_processor_without_a_table_has_no_filter() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        program("riscv64", strict_memory=True)


@pytest.mark.parametrize(
    ("header", "column"),
    [("x86_64-linux-gnu/asm/unistd_64.h", 0), ("asm-generic/unistd.h", 1)],
)
def test_the_numbers_are_those_of_the_kernels_headers(header: str, column: int) -> None:
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip("no kernel headers here")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text()))
    known = {name: str(numbers[column]) for name, numbers in NUMBERS.items() if name in defined}
    assert len(known) > 50
    assert known == {name: defined[name] for name in known}
