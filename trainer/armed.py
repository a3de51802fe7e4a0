"""A process that waits, its imports done, to become the command of a run that is to come.

Knows the few words that are exchanged with it; its side is trainer/warm_start.py. Does not know
what it imports or when its time comes: that is the supervisor's, which imports this module in an
isolated interpreter, on the standard library alone.
"""

import os
import select
import socket
from contextlib import suppress
from dataclasses import replace

from trainer.launch import Started, start_piped
from trainer.limits import RunLimits
from trainer.process_tree import end_descendants
from trainer.run_records import RunRequest
from trainer.run_start import RunStart, Start

_READY = b"ready\n"
_MOST_BYTES = 4096
_PATIENCE_S = 10.0
"""How long a run waits for imports that have begun, before it would rather begin anew."""


class ArmedProcess:
    """The only child of its supervisor, until it is handed over or ended."""

    def __init__(self, request: RunRequest, oom_score: int, limits: RunLimits) -> None:
        """Start it for a request that has `warm`; raises what `launch.start` raises."""
        if request.warm is None:
            raise ValueError("this run does not start warm")
        self.request = request
        self.limits = limits
        self.problem = ""
        """Why it is of no use; empty while it is."""
        self._said = b""
        waiting = replace(request, argv=request.warm.argv, env=request.warm.env)
        self.channel, theirs = socket.socketpair()
        with theirs:
            try:
                found = start_piped(waiting, oom_score, limits, channel=theirs.fileno())
            except BaseException:
                self.channel.close()
                raise
        self.started, self.output = found
        self.channel.setblocking(False)

    def listen(self) -> None:
        """Take in what it says, if it says anything."""
        try:
            data = self.channel.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self._said += data
        if self._said != _READY and (not data or self._said.endswith(b"\n")):
            words = self._said.decode("utf-8", "replace").strip()
            self.problem = words.removeprefix("failed: ") or "it ended while it waited"

    def is_ready(self, hurry: socket.socket) -> bool:
        """Wait for it to be ready, unless there is something to be read from `hurry` first."""
        while self._said != _READY and not self.problem:
            ready, _, _ = select.select([self.channel, hurry], [], [], _PATIENCE_S)
            if self.channel not in ready:
                self.problem = "its imports took too long"
            else:
                self.listen()
        return not self.problem

    def go(self) -> tuple[Started, int]:
        """Let it become the command; return it, and the descriptor to read its output from."""
        with self.channel, suppress(OSError):  # if it died just now, that is how the run ends
            self.channel.send(b"\n")
        return self.started, self.output

    def end(self) -> None:
        """Kill it, instead of `go` or after it, and let go of all that it had."""
        self.limits.kill()
        end_descendants()
        self.limits.close()
        self.started.close()
        self.channel.close()
        os.close(self.output)


def how_started(request: RunRequest, *, waited: bool, problem: str) -> RunStart:
    """Tell how a run starts: in a process that waited for it, or why in none.

    `problem` is what became of one that should have waited; empty if that is not known.
    """
    if request.warm is None:
        return RunStart(start=Start.COLD, reason="its slot learnt of it only at its turn")
    if not waited:
        return RunStart(start=Start.COLD, reason=problem or "nothing waited for it any more")
    without_imports = request.warm.without_imports
    return RunStart(start=Start.GATE if without_imports else Start.WARM, reason=without_imports)
