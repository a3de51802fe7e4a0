"""A figure, what is aimed at, and both as a table. Knows nothing of how figures come about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.machine import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a figure should be."""

    bound: float
    is_least: bool
    """Whether more than the bound is better."""

    def is_met(self, value: float) -> bool:
        """Say whether a value is good enough."""
        return value >= self.bound if self.is_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {_number(self.bound)}"


def at_least(bound: float) -> Aim:
    """Aim at no less."""
    return Aim(bound=bound, is_least=True)


def at_most(bound: float) -> Aim:
    """Aim at no more."""
    return Aim(bound=bound, is_least=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured, once or several times."""

    bench: str
    name: str
    unit: str
    values: Sequence[float]
    aim: Aim | None = None
    interval: tuple[float, float] | None = None
    """What it lies within with a confidence of 95 %, in place of the smallest and the largest."""
    count: int = 0
    """How many measurements it rests on, if they are not the values."""
    load: float = field(default_factory=load)
    """Of the machine when it had been measured, the measurement included."""

    @property
    def median(self) -> float:
        """The figure itself."""
        return median(self.values)

    @property
    def is_missed(self) -> bool:
        """Say whether it is not what was aimed at."""
        return self.aim is not None and not self.aim.is_met(self.median)

    def cells(self) -> tuple[str, ...]:
        """Return its row of the table."""
        verdict = ("missed" if self.is_missed else "met") if self.aim else ""
        return (
            self.bench,
            self.name,
            f"{_number(self.median)} {self.unit}".strip(),
            self._spread(),
            str(self.count or len(self.values)),
            str(self.aim or ""),
            verdict,
            f"{self.load:.1f}",
        )

    def _spread(self) -> str:
        if self.interval:
            low, high = self.interval
            return f"{_number(low)} to {_number(high)} (95 %)"
        several = len(self.values) > 1
        return f"{_number(min(self.values))} - {_number(max(self.values))}" if several else ""


HEADER = ("bench", "what", "median", "min - max", "n", "aim", "aim is", "load")


def as_text(figures: Sequence[Figure]) -> str:
    """Return the table for a terminal."""
    rows = [HEADER, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def as_markdown(figures: Sequence[Figure]) -> str:
    """Return the table for a page."""
    rows = [HEADER, ("---",) * len(HEADER), *(figure.cells() for figure in figures)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _number(value: float) -> str:
    """Return about three digits of a number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
