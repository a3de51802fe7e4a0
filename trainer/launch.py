"""Starting the first process of a trial: as it is, or in its sandbox.

Knows what must happen between fork and exec, and in which order. Does not know what becomes of the
process: that is the supervisor's, which imports this module in an isolated interpreter, on the
standard library alone, and must be single-threaded.
"""

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple

from trainer.limits import RunLimits
from trainer.process_tree import MARK_VARIABLE, adjust_oom_score, die_with_parent
from trainer.run_records import Confinement, EndedBy, RunRequest
from trainer.sandbox.bubblewrap import HOSTS, USER, Descriptors, command, options
from trainer.sandbox.privileges import drop, stage, staged
from trainer.sandbox.seccomp import program

PIPE_BYTES = 1 << 20
"""The most that Linux grants an unprivileged process by default; the rest is 64 KiB."""
_MOST_BYTES = 4096
"""More than is ever said through one of our pipes."""


class NoSandbox(RuntimeError):
    """The sandbox could not be made; the message says what was refused."""


class Started:
    """The first process of a trial, which may be the bwrap around it."""

    def __init__(self, pid: int, status: int | None = None) -> None:
        self.pid = pid
        self.is_confined = status is not None
        self._status = status
        self._said = b""

    def has_run(self) -> bool:
        """Say, once the first process has ended by itself, whether it ever started the command."""
        return not self.is_confined or b'"exit-code"' in self._read()

    def terminate(self) -> None:
        """Send SIGTERM to the command and the processes of its group.

        bwrap would end by it, and everything inside at once. So it goes to the group of the first
        process within, who ignores it: the kernel spares the first of a namespace any signal that
        it has no handler for.
        """
        with suppress(OSError):
            os.killpg(self._group(), signal.SIGTERM)

    def close(self) -> None:
        """Let go of what bwrap says; the processes stay as they are."""
        if self._status is not None:
            self._read()
            os.close(self._status)
            self._status = None

    def _group(self) -> int:
        first = self._read().partition(b"\n")[0] if self.is_confined else b""
        return int(json.loads(first)["child-pid"]) if first else self.pid

    def _read(self) -> bytes:
        if self._status is not None:
            with suppress(BlockingIOError):
                self._said += os.read(self._status, _MOST_BYTES)
        return self._said


def start_piped(
    request: RunRequest, oom_score: int, limits: RunLimits, *, channel: int = subprocess.DEVNULL
) -> tuple[Started, int]:
    """Start the command within its limits; return it, and a descriptor to read its output from.

    Reading there does not block. The command's standard input is `channel`. Raises OSError or
    ValueError where there is nothing to be started; in a sandbox, that a command is missing comes
    out later (`Started.has_run`). Raises NoSandbox.
    """
    output, write_end = os.pipe()
    try:
        with suppress(OSError):  # the user's share of pipe memory is spent: 64 KiB will do
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(output, False)
        return _start(request, (channel, write_end), oom_score, limits), output
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(write_end)


def _start(
    request: RunRequest, streams: tuple[int, int], oom_score: int, limits: RunLimits
) -> Started:
    if request.confinement is not None:
        return _start_confined(request, request.confinement, streams, oom_score, limits)
    env = {**request.env, MARK_VARIABLE: request.mark}
    before = _preparation(oom_score, limits)
    return Started(_spawn(request.argv, streams, env=env, cwd=request.cwd, before=before))


def never_run(log: str) -> tuple[EndedBy, str]:
    """Return why the command of a sandbox was never started, from what bwrap printed instead."""
    said = log.strip().rpartition("\n")[2].removeprefix("bwrap: ")
    if said.startswith("execvp "):  # all else was ready: there is no such command
        return EndedBy.NOT_STARTED, said.removeprefix("execvp ")
    return EndedBy.NO_SANDBOX, f"bwrap: {said}"


def _start_confined(
    request: RunRequest,
    confinement: Confinement,
    streams: tuple[int, int],
    oom_score: int,
    limits: RunLimits,
) -> Started:
    if confinement.uid is None and os.geteuid() == 0:
        raise NoSandbox("bwrap is not started by root: what it then shows of /proc is no sandbox")
    mark = {MARK_VARIABLE: request.mark}
    with ExitStack() as stack:
        status, status_end = os.pipe()
        stack.callback(os.close, status_end)
        on_failure = stack.enter_context(ExitStack())
        on_failure.callback(os.close, status)
        os.set_blocking(status, False)
        inherited = Descriptors(
            seccomp=_readable(_filter(limits), stack),
            status=status_end,
            users=_readable(_users(confinement), stack),
            hosts=_readable(HOSTS.encode(), stack),
        )
        program_at, *sources = _paths(confinement)
        told = options(
            confinement,
            env={**request.env, **mark},
            cwd=request.cwd,
            descriptors=inherited,
            sources=sources,
        )
        text = b"".join(os.fsencode(option) + b"\0" for option in told)
        options_from = _readable(text, stack)
        try:
            pid = _spawn(
                command(program_at, request.argv, options_from=options_from),
                streams,
                env=mark,  # by which bwrap itself is found and ended; it needs no other variable
                cwd="/",
                before=_preparation(oom_score, limits, confinement),
                inherited=(*astuple(inherited), options_from),
            )
        except OSError as error:  # it is bwrap that could not be started, not the command
            raise NoSandbox(str(error)) from error
        on_failure.pop_all()
    return Started(pid, status)


def _filter(limits: RunLimits) -> bytes:
    """Return the filter of system calls; memory that is in no process's maps has to be counted."""
    try:
        return program(os.uname().machine, strict_memory=not limits.counts_all_memory)
    except ValueError as error:
        raise NoSandbox(str(error)) from error


def _users(confinement: Confinement) -> bytes:
    """Return an /etc/passwd, for programs that ask who they are or where their home is."""
    uid = os.geteuid() if confinement.uid is None else confinement.uid
    gid = os.getegid() if confinement.uid is None else confinement.uid
    return os.fsencode(f"{USER}:x:{uid}:{gid}::{confinement.home}:/bin/sh\n")


def _readable(data: bytes, stack: ExitStack) -> int:
    """Return a descriptor from which `data` can be read once."""
    descriptor = os.memfd_create("sandbox")
    stack.callback(os.close, descriptor)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _paths(confinement: Confinement) -> list[str]:
    """Return where bwrap is, and where it finds what it is to show."""
    sources = [bind.source for bind in confinement.binds]
    if confinement.uid is None:
        return [confinement.program, *sources]
    program_at, root = confinement.program, confinement.program_root
    if root:
        program_at = staged(len(sources)) + program_at.removeprefix(root)
    return [program_at, *(staged(index) for index in range(len(sources)))]


def _preparation(
    oom_score: int, limits: RunLimits, confinement: Confinement | None = None
) -> Callable[[], None]:
    """Return what is to be done in the new process, before it becomes the command."""
    supervisor = os.getpid()

    def prepare() -> None:
        die_with_parent(supervisor)
        with suppress(OSError):
            adjust_oom_score(oom_score)
        limits.enter()
        if confinement is None or confinement.uid is None:
            return
        root = [confinement.program_root] if confinement.program_root else []
        stage([*(bind.source for bind in confinement.binds), *root])
        drop(confinement.uid)
        die_with_parent(supervisor)  # again: a change of user clears it

    return prepare


def _spawn(
    argv: Sequence[str],
    streams: tuple[int, int],
    *,
    env: Mapping[str, str],
    cwd: str,
    before: Callable[[], None],
    inherited: Sequence[int] = (),
) -> int:
    """Start a process in a session of its own; `before` is called in it, just before exec.

    `streams` are its standard input, and where its output and its errors go.
    """
    standard_input, output = streams
    problem, problem_end = os.pipe()

    def prepare() -> None:
        try:
            before()
        except OSError as error:  # Popen would only say that there was one
            os.write(problem_end, str(error).encode()[:_MOST_BYTES])
            raise

    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=standard_input,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - no other thread exists that could hold a lock
        )
    except subprocess.SubprocessError as error:
        os.set_blocking(problem, False)
        with suppress(BlockingIOError):
            raise NoSandbox(os.read(problem, _MOST_BYTES).decode()) from error
        raise NoSandbox(str(error)) from error
    finally:
        os.close(problem)
        os.close(problem_end)
    # The supervisor reaps by wait4, which also tells the times; this keeps Popen from it.
    process.returncode = 0
    return process.pid
