"""Guardrails: bounds on numbers that a run prints beside its metric.

Pure. An improvement that is bought with what nobody wants to pay (twice the memory, half the speed)
is none. A number that was not printed breaches its guard: a candidate must not gain by silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A bound on one summary number; both ends are allowed values, None is no bound."""

    name: str
    low: float | None = None
    high: float | None = None

    def breach(self, metrics: Mapping[str, float]) -> str:
        """Return in words how a run's summary numbers are out of bounds; empty if they are not."""
        value = metrics.get(self.name)
        if value is None:
            return f"it did not print {self.name}, which a guard is set on"
        if self.high is not None and value > self.high:
            return f"{self.name} {value:.6g} is above its guard's max of {self.high:.6g}"
        if self.low is not None and value < self.low:
            return f"{self.name} {value:.6g} is below its guard's min of {self.low:.6g}"
        return ""
