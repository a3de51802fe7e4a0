"""Workers whose runs end badly in a row: how long each rests, and which of its ends are told. Pure.

One that dies at each start would do so all night: it is run again ever later, and told of ever less
often.
"""

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
STEADY_S = 120.0
"""After a run that lasted so long, the next bad end is the first of its row."""


class Relapses:
    """What has become of each worker's runs, by the worker's name."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._in_a_row: dict[str, int] = {}

    def begin(self, name: str, now: float) -> None:
        """Take note that a worker is run."""
        self._begun[name] = now

    def count(self, name: str, now: float) -> int:
        """Take note that its run has ended badly; return how many in a row have."""
        is_steady = now - self._begun[name] > STEADY_S
        self._in_a_row[name] = 1 if is_steady else self._in_a_row.get(name, 0) + 1
        return self._in_a_row[name]

    def forget(self, name: str) -> None:
        """Take note that its run has ended well."""
        self._in_a_row.pop(name, None)


def pause_s(in_a_row: int) -> float:
    """Return how long a worker rests that has died so many times in a row."""
    doublings = min(in_a_row - 1, 10)
    return min(FIRST_PAUSE_S * 2.0**doublings, LONGEST_PAUSE_S)


def is_told(in_a_row: int) -> bool:
    """Say whether this one of a row is told: the first, and then each that doubles their number."""
    return in_a_row & (in_a_row - 1) == 0


def times(in_a_row: int) -> str:
    """Return how often in words; nothing for once."""
    return f" {in_a_row} times in a row" if in_a_row > 1 else ""
