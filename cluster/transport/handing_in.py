"""Hands in what trials left on a node before it leaves, for as long as the head takes it.

Knows when to give up. Does not know what is sent, nor how.
"""

from collections.abc import Callable

from cluster.transport.remote_code import LACK
from cluster.transport.remote_results import RemoteResults

SILENT_S = 60.0
"""How long the head may take nothing before a node leaves with what it has."""


class HandingIn:
    """Sends, in a thread, from when it is made."""

    def __init__(
        self, results: RemoteResults, say: Callable[[str, str], None], *, silent_s: float = SILENT_S
    ) -> None:
        """`results` is not started yet, and takes over at once what workers of the node left."""
        self._results = results.start()
        self._say = say
        self._silent_s = silent_s
        self._told = ""

    def is_over(self) -> bool:
        """Say whether nothing is left to be handed in, or nobody takes it."""
        due, stuck = len(self._results.unsent()), self._results.stuck
        is_over = not due or self._results.silent_s > self._silent_s
        if is_over and due + stuck:
            self._tell("problem", f"{_what(due + stuck)} stays here until this machine joins again")
        elif not is_over:
            lack = f": {LACK}" if self._results.silent_s else ""
            self._tell("phase", f"handing in {_what(due)}{lack}")
        return is_over

    def _tell(self, kind: str, text: str) -> None:
        if text != self._told:
            self._say(kind, text)
        self._told = text


def _what(many: int) -> str:
    return f"what {many} trial{'s' * (many > 1)} left"
