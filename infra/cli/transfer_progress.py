"""Says how far a long transfer is, so that nobody takes it for stuck."""

import time
from collections.abc import Callable

from infra.cli.output import note

EVERY_S = 2.0


def progress(verb: str) -> Callable[[int, int], None]:
    """Return what says every other second how many events are done."""
    said = time.monotonic()

    def show(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said >= EVERY_S:
            said = time.monotonic()
            note(f"{verb} {done} of {of} events")

    return show
