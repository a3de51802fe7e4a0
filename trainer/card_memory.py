"""Seeing to it that a trial finds its cards as empty as the one before it did.

Knows how much memory is taken on a slot's cards when none of its trials runs. Does not know whose
it is. The driver may be a moment late in taking back what a killed process held; a trial that
starts meanwhile could run out of memory, or measure with less of it.
"""

import time
from collections.abc import Callable, Sequence

from trainer.gpu import Gpus

_SLACK_MB = 256.0
_LOOK_S = 0.005
_PATIENCE_S = 5.0


class CardMemory:
    """The memory of the cards that a slot has to itself."""

    def __init__(
        self,
        uuids: Sequence[str],
        gpus: Gpus,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._uuids = frozenset(uuids)
        self._gpus = gpus
        self._clock = clock
        self._sleep = sleep
        self._at_rest: dict[str, float] = {}

    def wait_until_free(self) -> None:
        """Wait until no more is taken than at the first call, five seconds at most.

        To be called when nothing of the slot runs. What is still taken then is taken to be somebody
        else's, and is not waited for again.
        """
        give_up_at = self._clock() + _PATIENCE_S
        while self._uuids:
            used = {card.uuid: card.used_mb for card in self._gpus.look()}
            taken = {uuid: used.get(uuid, 0.0) for uuid in self._uuids}
            before = self._at_rest or taken
            if all(taken[uuid] <= before[uuid] + _SLACK_MB for uuid in taken):
                self._at_rest = self._at_rest or taken
                return
            if self._clock() >= give_up_at:
                self._at_rest = taken
                return
            self._sleep(_LOOK_S)
