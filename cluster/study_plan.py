"""What decisions depend on beside the state: the configuration, and the moment. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from eval.guard import Guard
from eval.judge import Judge
from eval.ladder import Step
from eval.metric import Metric
from eval.seeds import SeedHabit
from trainer.trial import TrialId

Policy = Literal["chain", "one-at-a-time", "best-of-wave"]
"""See cluster.reducer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What of the configuration decisions depend on."""

    metric: Metric
    judge: Judge
    reducer: Policy = "chain"
    """How stale winners are brought together."""
    max_staleness: int = 8
    """Promotions that a candidate may wait through, merged onto each new incumbent; 0 is never."""
    guards: tuple[Guard, ...] = ()
    """Bounds on other numbers, which a candidate must keep whatever the judge says."""
    proposers: tuple[str, ...]
    """Names of the proposers; empty for a study fed by submissions alone."""
    seeds: SeedHabit = SeedHabit.TAKEN
    """Where the repository's randomness comes from."""
    reference_class: str = ""
    """Device class that promotes; empty for the one with most slots at the first verdict."""
    control_every: int = 50
    """Trials of a slot after which the incumbent is run there again; 0 is never."""
    replicate_share: float = 0.3
    """Of the time on slots, what further runs of candidates may take."""
    budget_s: float = 300.0
    """What scripts are told to aim at."""
    smoke_s: float | None = None
    """The same for smoke runs; None is none of these."""
    rungs: tuple[Step, ...] = ()
    """Rungs that proposals climb before their first run in full, the lowest budget first."""
    slots: int
    """Slots to expect before workers have presented themselves."""
    most_experiments: int = 0
    most_hours: float = 0.0
    most_slot_hours: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decisions depend on that no event says."""

    now: datetime
    asking: int = 0
    """Proposals that proposers are working on."""
    proposal_latency_s: float = 0.0
    """How long a need may wait for its answer: a proposer takes one question at a time."""
    hopeless: Mapping[tuple[TrialId, int], str] = field(default_factory=dict)
    """Why running attempts at trials are hopeless by their curves, which are no events."""
