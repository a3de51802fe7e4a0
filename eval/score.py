"""What the trials of an experiment say, as one record."""

import math
from dataclasses import dataclass
from statistics import stdev

from eval.conditions import Mark
from eval.noise import mean_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The measured worth of one tree: one value per scored trial, all on one device class."""

    values: tuple[float, ...]
    """One finite number per scored trial, in order; never empty."""
    device_class: str
    marks: tuple[tuple[Mark, ...], ...] = ()
    """For each value, what was odd about the conditions; empty where that is known of none."""
    seeds: tuple[int, ...] = ()
    """For each value, the seed that its trial was told; empty where that is not known."""

    def __post_init__(self) -> None:
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"a score needs finite values, got {self.values}")
        if self.marks and len(self.marks) != len(self.values):
            raise ValueError(f"{len(self.marks)} marks for {len(self.values)} values")
        if self.seeds and len(self.seeds) != len(self.values):
            raise ValueError(f"{len(self.seeds)} seeds for {len(self.values)} values")

    @property
    def mean(self) -> float:
        """Arithmetic mean, in the metric's unit."""
        return mean_of(self.values)

    @property
    def n(self) -> int:
        """How many trials were scored."""
        return len(self.values)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; nan for a single trial, which says nothing of its noise."""
        return stdev(self.values) / math.sqrt(self.n) if self.n > 1 else math.nan
