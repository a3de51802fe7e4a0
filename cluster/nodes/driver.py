"""What every driver of Ray of ours has in common: whom it tells, whom it obeys, with whom it goes.

A driver is a child of a process that imports no Ray. It reports in JSON lines on standard output,
is told a word a line on standard input, and ends when its Ray ends.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from cluster.nodes.ray_cluster import RayProcess

_CHECK_S = 0.25


def say(kind: str, text: str) -> None:
    """Report to whoever started this process."""
    with suppress(OSError):  # it was killed: nobody listens
        sys.stdout.write(json.dumps({"kind": kind, "text": text}) + "\n")
        sys.stdout.flush()


def ordered(timeout_s: float) -> str | None:
    """Return an order: "" if nobody is left to give one, None if there is none."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return sys.stdin.readline().strip() if ready else None


class BrokenOff(BaseException):  # nothing that handles errors is to take it for one
    """An order came while the main thread was at something that is not to be waited for."""


class Orders:
    """What this process is told, as `ordered` returns it, heard by a thread of its own.

    Until `be_patient` is called, the first order also raises BrokenOff in the main thread, whatever
    that is at: to make a machine ready can take as long as somebody's `setup` likes.
    """

    def __init__(self) -> None:
        self._words: SimpleQueue[str] = SimpleQueue()
        self._is_patient = False

    def start(self) -> "Orders":
        """Begin to listen, in the main thread; return itself."""
        signal.signal(signal.SIGUSR1, self._break_off)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def be_patient(self) -> None:
        """Have orders wait until they are asked for, from now on."""
        self._is_patient = True

    def next(self, timeout_s: float) -> str | None:
        """Return the next order, if there is one in time."""
        with suppress(Empty):
            return self._words.get(timeout=timeout_s)
        return None

    def _listen(self) -> None:
        word: str | None = None
        while word != "":
            word = sys.stdin.readline().strip()
            self._words.put(word)
            if main := threading.main_thread().ident:
                signal.pthread_kill(main, signal.SIGUSR1)

    def _break_off(self, *_: object) -> None:
        # It is the main thread that looks, when it takes the signal: none is late.
        if not self._is_patient:
            self._is_patient = True
            raise BrokenOff


def leave_with(own: RayProcess, is_ending: Callable[[], bool] = lambda: False) -> None:
    """End this process when its Ray ends: Ray's own calls would go on waiting for a minute.

    Not while `is_ending`: then it is this process that ends its Ray.
    """
    while own.is_alive():
        time.sleep(_CHECK_S)
    if is_ending():
        return
    say("problem", "Ray has died")
    os._exit(1)
