"""Waits for a ledger whose server is away, and goes on where it was.

Whatever is done must bear being done again: it may have been, and only the answer was lost.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress

from cluster.ledger.ledger import LedgerAway

log = logging.getLogger("incumbent")

AWAY_S = 120.0
"""How long the ledger's server may stay away before the controller gives up."""
PAUSE_S = 0.5
BACK_S = 5.0
"""A server that fails again so soon after it answered was not back: it may take reads alone."""


def patiently(
    action: Callable[[], None], *, revive: Callable[[], None], renew: Callable[[], None]
) -> None:
    """Run an action, again once the server is back that went away meanwhile.

    Args:
        action: what is to be done.
        revive: brings back a server of ours that has died; any other is only waited for.
        renew: is called when the server answers again, before anything else: nobody could extend
            a lease meanwhile.

    Raises:
        LedgerAway: it stayed away for AWAY_S.
    """
    away_since: float | None = None
    back_at = math.inf
    while True:
        try:
            if away_since is not None:
                renew()
                back_at = time.monotonic()
            action()
        except LedgerAway as error:
            if time.monotonic() > back_at + BACK_S:
                away_since = None  # it went away anew
            if away_since is None:
                away_since = time.monotonic()
                log.warning("%s: waiting for up to %.0f s", error, AWAY_S)
            elif time.monotonic() > away_since + AWAY_S:
                raise
            back_at = math.inf
            time.sleep(PAUSE_S)
            with suppress(LedgerAway):  # it lives, and does not answer
                revive()
        else:
            if away_since is not None:
                log.info("the server answers again, after %.0f s", back_at - away_since)
            return
