"""Attempts to go on when a trial is over, or to keep anybody from ending it."""

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
_LIMIT_S = 1.5
"""Long enough for a script to have begun, on a busy machine as well."""

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


def _running() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


ATTEMPTS = (
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
        timeout_s=_LIMIT_S,
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
        timeout_s=_LIMIT_S,
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
        timeout_s=_LIMIT_S,
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
        timeout_s=_LIMIT_S,
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
)
