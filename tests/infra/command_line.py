"""The command line in processes of its own, without the imports that each would begin with.

Most of what a short command costs is half a second of imports. Here one process does them, and
forks for each command, which has arguments, variables, folder and files of its own from then on.
What the installed program does at its start and its end is left to tests/end_to_end.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_PATIENCE_S = 60.0
_MODULES = (
    "infra.display.attach",
    "infra.cli.problems",
    "infra.detection.detect",
    "infra.processes.launch",
    "infra.display.live_view",
    "infra.local.settings",
    "infra.local.study",
    "infra.display.tables",
    "proposer.submission",
)
"""What the verbs import when they run, as far as that takes time."""

_PROGRAM = """
import atexit, gc, importlib, json, os, socket, sys
from infra.cli.main import main

def command(order, descriptors):
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv[:] = order["argv"]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)  # to take the modules apart would copy all that is shared

for name in sys.argv[2:]:
    importlib.import_module(name)
gc.freeze()
link = socket.socket(fileno=int(sys.argv[1]))
while True:
    order, descriptors, *_ = socket.recv_fds(link, 1 << 20, 3)
    if not order:
        break
    child = os.fork()
    if child == 0:
        link.close()
        command(json.loads(order), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    link.send(b"%d" % child)
    link.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class CommandLine:
    """A process that forks one for each command."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, str(theirs.fileno()), *_MODULES],
                cwd="/",
                env={"LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._link.settimeout(_PATIENCE_S)

    def run(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as subprocess.run does, for a minute at most."""
        with (
            tempfile.TemporaryFile("w+") as given,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            given.write(stdin)
            given.seek(0)
            order = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(self._link, [order], [given.fileno(), out.fileno(), err.fileno()])
            code = self._wait(int(self._link.recv(64)))
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(list(argv), code, out.read(), err.read())

    def _wait(self, pid: int) -> int:
        try:
            return int(self._link.recv(64))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._link.recv(64)
            raise

    def close(self) -> None:
        """End the process."""
        self._link.close()
        self._process.wait()


@cache
def command_line() -> CommandLine:
    """Return the one of this session, which ends with it."""
    made = CommandLine()
    atexit.register(made.close)
    return made
