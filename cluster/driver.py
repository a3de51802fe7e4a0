"""What every driver of Ray of ours has in common: whom it tells, whom it obeys, with whom it goes.

A driver is a child of a process that imports no Ray. It reports in JSON lines on standard output,
is told a word a line on standard input, and ends when its Ray ends.
"""

import json
import os
import select
import sys
import time

from cluster.ray_cluster import RayProcess

_CHECK_S = 0.25


def say(kind: str, text: str) -> None:
    """Report to whoever started this process."""
    sys.stdout.write(json.dumps({"kind": kind, "text": text}) + "\n")
    sys.stdout.flush()


def ordered(timeout_s: float) -> str | None:
    """Return an order: "" if nobody is left to give one, None if there is none."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return sys.stdin.readline().strip() if ready else None


def leave_with(own: RayProcess) -> None:
    """End this process when its Ray ends: Ray's own calls would go on waiting for a minute."""
    while own.is_alive():
        time.sleep(_CHECK_S)
    say("problem", "Ray has died")
    os._exit(1)
