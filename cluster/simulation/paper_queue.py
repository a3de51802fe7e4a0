"""The trials of a simulated study that wait for a slot."""

from heapq import heapify, heappop, heappush

from cluster.policy.commands import QueueTrial
from trainer.trial import TrialId


class PaperQueue:
    """Highest priority first, then first come, first served; and what waits for one slot alone."""

    def __init__(self) -> None:
        self.meant: dict[int, QueueTrial] = {}
        """By the number of the only slot that may run it."""
        self._rest: list[tuple[int, int, QueueTrial]] = []
        self._count = 0

    def __bool__(self) -> bool:
        """Say whether anything waits that any slot may run."""
        return bool(self._rest)

    def put(self, order: QueueTrial) -> None:
        """Let a trial wait."""
        if order.place.slot:
            self.meant[int(order.place.slot.removeprefix("gpu-"))] = order
            return
        self._count += 1
        heappush(self._rest, (-order.priority, self._count, order))

    def take(self) -> QueueTrial:
        """Take the first that any slot may run."""
        return heappop(self._rest)[2]

    def take_back(self, trial: TrialId) -> QueueTrial | None:
        """Take a trial out; return None if it does not wait."""
        for slot, order in self.meant.items():
            if order.trial == trial:
                return self.meant.pop(slot)
        for entry in self._rest:
            if entry[2].trial == trial:
                self._rest.remove(entry)
                heapify(self._rest)
                return entry[2]
        return None
