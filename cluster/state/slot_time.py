"""What the time of slots goes into, and whether proof may take more of it. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Purpose(StrEnum):
    """What a trial is run for; the names of SlotTime's fields."""

    SEARCH = "search"  # the first run of a proposal, and runs of the baseline
    REPLICATES = "replicates"  # a further run of a proposal or a merge
    MERGES = "merges"  # the first run of a merge
    CONTROLS = "controls"  # the incumbent again


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTime:
    """Seconds that ended trials held slots, lost ones included, by what they were for."""

    search: float = 0.0
    """First runs of proposals, and runs of the baseline."""
    replicates: float = 0.0
    """Further runs of a proposal or a merge."""
    merges: float = 0.0
    """First runs of merges."""
    controls: float = 0.0
    """Runs of what was promoted before: controls, and measurements on further device classes."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.search + self.replicates + self.merges + self.controls

    def leaves_for_proof(self, share: float, *, proving: int, others: int, run_s: float) -> bool:
        """Say whether one more replicate keeps proof within its share of the time.

        Args:
            share: of all slot time, at most.
            proving: replicates that are on their way.
            others: other trials that are on a slot.
            run_s: how long a trial takes, in seconds; those on their way count with it.
        """
        proof = self.replicates + (proving + 1) * run_s
        return proof <= share * (self.total + (proving + 1 + others) * run_s)

    def plus(self, purpose: Purpose, seconds: float) -> "SlotTime":
        """Return it with so many seconds more for one purpose."""
        return replace(self, **{purpose.value: getattr(self, purpose.value) + seconds})
