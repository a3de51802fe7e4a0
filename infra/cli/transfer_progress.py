"""Says how far a long transfer is, so that nobody takes it for stuck."""

import time
from collections.abc import Callable

from infra.cli.output import note

EVERY_S = 2.0


def progress(verb: str, what: str = "events") -> Callable[[int, int], None]:
    """Return what says every other second how many are done; and, having said so, of the last."""
    said = time.monotonic()
    has_spoken = False

    def show(done: int, of: int) -> None:
        nonlocal said, has_spoken
        if time.monotonic() - said >= EVERY_S or (has_spoken and done == of):
            said, has_spoken = time.monotonic(), done < of
            note(f"{verb} {done} of {of} {what}")

    return show
