"""The number that a study improves, and how it is found in a log.

Knows regular expressions and directions; does not know where the text comes from. Standard library
only: the trial supervisor imports this module in an isolated interpreter that has nothing else.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

MOST = 1e100
"""Numbers beyond this count as infinite: differences and sums of what a log prints must be finite,
for JSON, and so the ledger, holds nothing else."""


class Goal(StrEnum):
    """The direction in which a metric improves."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A named number with a direction and the pattern that finds it in a line of output."""

    name: str
    goal: Goal
    pattern: str
    """Regular expression with one group (the number), searched in each line of the log."""
    plausible: tuple[float, float] | None = None
    """Least and greatest value that can be; None if the user did not say."""

    def improvement(self, new: float, old: float) -> float:
        """Return how much better `new` is than `old`; positive is better, in the metric's unit."""
        return old - new if self.goal is Goal.MINIMIZE else new - old

    def is_better(self, new: float, old: float) -> bool:
        """Say whether `new` is strictly better than `old`."""
        return self.improvement(new, old) > 0


class Sightings:
    """When a metric's values were printed last, as far as `eval.suspicion` asks; bounded memory."""

    _MOST_TEXTS = 256
    _FINAL_S = 1.0

    def __init__(self) -> None:
        self._at_s: dict[str, float] = {}
        """When each was printed last, the latest at the end."""

    def see(self, text: str, at_s: float) -> None:
        """Note a value as it was printed, and when; times never go back."""
        self._at_s.pop(text, None)
        self._at_s[text] = at_s
        if len(self._at_s) > self._MOST_TEXTS:
            del self._at_s[next(iter(self._at_s))]

    @property
    def value_at_s(self) -> float | None:
        """When the last value was printed; None if none was."""
        return next(reversed(self._at_s.values()), None)

    def final_values(self, trained_until_s: float | None) -> int:
        """Return how many different values came at the end, at most as many as are remembered.

        The end is what came after training, and in any case the second before the last value. Two
        values without any training between them are two for one and the same model.

        Args:
            trained_until_s: when training was over; None if nothing tells.
        """
        last_s = self.value_at_s
        if last_s is None:
            return 0
        since_s = last_s - self._FINAL_S
        if trained_until_s is not None:
            since_s = min(since_s, trained_until_s)
        return sum(at_s >= since_s for at_s in self._at_s.values())


class MetricReader:
    """Finds the metric and other summary numbers in a log, line by line; the last value counts."""

    _SUMMARY = re.compile(
        r"^(?:METRIC\s+|>>>\s*)?(?P<name>[A-Za-z_][\w.]{0,63})\s*[:=]\s*"
        r"(?P<value>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*$"
    )
    _MOST_NAMES = 64

    def __init__(self, metric: Metric) -> None:
        self._pattern = re.compile(metric.pattern)
        self.text: str | None = None
        """What the pattern's group last matched; None if it never did."""
        self.count = 0
        """How many lines the pattern matched."""
        self.sightings = Sightings()
        self.summary: dict[str, float] = {}
        """Other `name: value`, `METRIC name=value` and `>>> name: value` lines; the last counts.

        Finite numbers alone."""

    def feed(self, line: str, at_s: float = 0.0) -> None:
        """Read one line (no line end, no carriage return), printed `at_s` after the start."""
        found = self._pattern.search(line)
        if found:
            self.text = found.group(1)
            self.count += 1
            if self.text is not None:  # a group that need not match
                self.sightings.see(self.text, at_s)
            return
        found = self._SUMMARY.match(line)
        if found and (found["name"] in self.summary or len(self.summary) < self._MOST_NAMES):
            value = float(found["value"])
            if abs(value) <= MOST:  # "1e999" is infinite
                self.summary[found["name"]] = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a finished log says of the metric: a finite value, or why there is none."""

    value: float | None
    problem: str
    """Empty when there is a value; else "missing", "not a number: ..." or "not finite: ..."."""

    @classmethod
    def of(cls, text: str | None) -> "Reading":
        """Interpret what the pattern's group matched last."""
        if text is None:
            return cls(value=None, problem="missing")
        try:
            value = float(text)
        except ValueError:
            return cls(value=None, problem=f"not a number: {text[:80]!r}")
        if not abs(value) <= MOST:  # so is NaN not
            return cls(value=None, problem=f"not finite: {text[:80]}")
        return cls(value=value, problem="")
