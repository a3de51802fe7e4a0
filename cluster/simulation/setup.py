"""What a simulated study is made of, and what is looked at while it goes on. Plain data."""

from dataclasses import dataclass

from cluster.policy.study_plan import Policy
from cluster.simulation.landscape import Landscape
from eval.judge import Judge
from eval.ladder import Step as Rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What one simulated study is made of."""

    landscape: Landscape
    judge: Judge
    slots: int
    hours: float
    seed: int
    reducer: Policy = "chain"
    max_staleness: int = 8
    """See StudyPlan."""
    rungs: tuple[Rung, ...] = ()
    """What candidates climb before their run in full."""
    most_experiments: int = 0
    """End after so many verdicts instead of at the hour, if that is earlier; 0 for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The best so far from some moment on, as improvements over the baseline's true score."""

    at_s: float
    slot_seconds: float
    """What trials had used by then, those on their way not counted."""
    true: float
    claimed: float
    is_false: bool = False
    """It is truly no better than what it replaced."""
