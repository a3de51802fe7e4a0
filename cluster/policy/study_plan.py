"""What decisions depend on beside the state: the configuration, and the moment. Plain data."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from eval.guard import Guard
from eval.judge import Judge
from eval.ladder import Step
from eval.metric import Metric
from eval.seeds import SeedHabit
from proposer.proposal import TaskKind
from trainer.trial import TrialId

Policy = Literal["chain", "one-at-a-time", "best-of-wave"]
"""See cluster.policy.reducer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A proposer, as far as decisions depend on it."""

    name: str
    weight: float = 1.0
    """Its share of the proposals, relative to the others'."""
    batch: int = 0
    """How many proposals one question is for; 0 for as many as are missing."""
    tasks: frozenset[TaskKind] = frozenset()
    """What it can be asked for beside ideas of its own."""
    reads_patches: bool = True
    """Whether it makes anything of the diffs of earlier experiments."""


def seats(*names: str) -> tuple[Seat, ...]:
    """Return seats of proposers that share alike and take as many as are missing."""
    return tuple(Seat(name=name) for name in names)


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
    proposers: tuple[Seat, ...]
    """Empty for a study fed by submissions alone."""
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
    most_usd: float = 0.0
    """US dollars that calls of models may cost; 0 is no limit, as for the others."""
    most_tokens: int = 0
    max_fixes: int = 2
    """How often a candidate that crashed for a trivial reason goes back to its author."""
    approve: bool = False
    """Whether candidates of proposers wait for somebody's approval."""

    def seat(self, proposer: str) -> Seat:
        """Return the seat of a proposer; raises KeyError if it has none."""
        for seat in self.proposers:
            if seat.name == proposer:
                return seat
        raise KeyError(proposer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A proposer at this moment: what it was asked for, and how long it takes."""

    proposer: str
    count: int = 0
    """Proposals that it is working on; 0 if it is free."""
    since: datetime | None = None
    """When it was asked for them."""
    latency_s: float = 0.0
    """How long an answer of it takes, on average; 0 before there was one."""
    task: str = ""
    """The task that it is working on; empty for ideas of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decisions depend on that no event says."""

    now: datetime
    asked: Sequence[Asked] = ()
    """The proposers that were asked before, whether they are free again or not."""
    hopeless: Mapping[tuple[TrialId, int], str] = field(default_factory=dict)
    """Why running attempts at trials are hopeless by their curves, which are no events."""

    @property
    def asking(self) -> int:
        """Proposals that proposers are working on."""
        return sum(asked.count for asked in self.asked)

    def with_asked(self, proposers: Collection[str]) -> "Circumstances":
        """Return the same once some that were free have been asked for a task each."""
        others = [asked for asked in self.asked if asked.proposer not in proposers]
        busy = [replace(self.of(name), count=1, since=self.now) for name in proposers]
        return replace(self, asked=[*others, *busy])

    def of(self, proposer: str) -> Asked:
        """Return what is known of one proposer."""
        found = (asked for asked in self.asked if asked.proposer == proposer)
        return next(found, Asked(proposer=proposer))
