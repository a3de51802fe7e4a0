"""Which candidates go on from a rung of the budget ladder: asynchronous successive halving. Pure.

On a rung a candidate is run with a part of the full budget. Of those that have completed a rung so
far, the best share goes on to the next; nobody waits for others to arrive, and who was stopped too
early rises when enough worse ones have come after it. Li et al., "A System for Massively Parallel
Hyperparameter Tuning" (MLSys 2020), algorithm 2.

Knows numbers of runs with equal budgets. Which runs those are is cluster.policy.ladder's to say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval.metric import Goal

FEWEST = 5
"""Of fewer that have completed a rung, the order is little more than chance."""
MOST_COMPARED = 32
"""The latest that completed a rung; later ones were made on a better incumbent, and rank by it."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a candidate stands on a rung."""

    rank: int
    """1 for the best; equal ones share it."""
    of: int
    """How many have completed the rung, it included."""
    goes_on: bool
    reason: str
    """In words, with the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A rung of the ladder."""

    budget_s: float
    keep: float
    """Share of those that completed it that goes on, above 0 and below 1; rounded up."""
    fewest: int = FEWEST
    """So many must have completed it before any is stopped there."""

    def standing(self, value: float, others: Sequence[float], goal: Goal) -> Standing:
        """Say whether a candidate goes on; `others` are the values of all others on the rung."""
        sign = 1 if goal is Goal.MINIMIZE else -1
        rank = 1 + sum(sign * other < sign * value for other in others)
        of = 1 + len(others)
        going_on = math.ceil(self.keep * of - _ROUNDING)
        words = f"rung of {self.budget_s:g} s: place {rank} of {of}, "
        if of < self.fewest:
            words += f"and all go on until there are {self.fewest}"
            return Standing(rank=rank, of=of, goes_on=True, reason=words)
        words += f"of which the best {going_on} go on"
        return Standing(rank=rank, of=of, goes_on=rank <= going_on, reason=words)
