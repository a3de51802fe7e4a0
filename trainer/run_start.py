"""How a run started: what had been done for it when its turn came.

Standard library only: the supervisor imports this module in an isolated interpreter.
"""

from dataclasses import dataclass
from enum import StrEnum


class Start(StrEnum):
    """What a run found when its turn came."""

    WARM = "warm"  # a process that waited for it in its sandbox, with its imports done
    GATE = "gate"  # a shell that waited for it in its sandbox: no import was done
    COLD = "cold"  # nothing: its sandbox, its interpreter and its imports were still to come


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """How one run started, and why its imports were not done by then; empty if they were."""

    start: Start
    reason: str = ""
