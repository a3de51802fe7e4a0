"""What workers are told when they ask for work. Plain data."""

from enum import StrEnum


class QueueMode(StrEnum):
    """What workers are told when they ask for work; the later, the less they may do."""

    OPEN = "open"  # the next trial
    HELD = "held"  # to wait: the study is paused, or their node is quarantined
    DRAINING = "draining"  # to leave: the study stops, or their node is to go

    def stricter(self, other: "QueueMode") -> "QueueMode":
        """Return whichever of two lets workers do less."""
        return max(self, other, key=list(QueueMode).index)
