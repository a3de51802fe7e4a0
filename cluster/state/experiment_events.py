"""Facts of experiments: which there are, which there are not, and what was judged of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cluster.state.event import Event
from cluster.state.experiment import Kind
from eval.beliefs import Belief, Learnt
from eval.judge import Verdict
from eval.seeds import SeedHabit
from proposer.proposal import Scalar
from trainer.trial import CommitId, ExperimentId, SlotId, TrialId


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentProposed(Event):
    """A candidate was committed under its own ref."""

    experiment: ExperimentId
    kind: Kind
    commit: CommitId
    tree: str
    base: ExperimentId
    base_commit: CommitId
    lines: int
    proposer: str
    hypothesis: str
    priority: int = 0
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    submission: str = ""
    merge_of: ExperimentId = ExperimentId("")
    chain: ExperimentId = ExperimentId("")
    """For a link of a chain of merges: the chain's first."""
    reverts: ExperimentId = ExperimentId("")
    """For a revert: whose patch it takes out of the branch again."""
    seeds: SeedHabit | None = None
    """Where the patch changes how the seed is set: its tree's habit (eval.seeds); else null."""
    category: str = ""
    """Its proposer's word for the kind of change."""
    expected_effect: float | None = None
    """By how much its proposer expects the metric to improve; positive is better."""
    origin: str = ""
    """Which recorded answer it is of, and which of it, e.g. "c12/0"; else empty."""
    task: str = ""
    """Which task it answers, e.g. "fix/e12" or "compose/e7"; else empty."""
    syntax: str = ""
    """Digest of the syntax trees of its editable files; empty in older ledgers."""
    is_held: bool = False
    """It waits for somebody's approval."""
    hints: tuple[str, ...] = ()
    """What its proposer suggests to the tuner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRejected(Event):
    """A proposal cost nothing: it repeats a tree, does not apply, or touches frozen files."""

    proposer: str
    hypothesis: str
    reason: str
    duplicate_of: ExperimentId = ExperimentId("")
    submission: str = ""
    origin: str = ""
    """As of ExperimentProposed."""
    task: str = ""
    """As of ExperimentProposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRejected(Event):
    """Preflight found that a candidate can only fail; no trial of it was queued."""

    experiment: ExperimentId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RungJudged(Event):
    """A candidate that completed a rung goes on, or is stopped there; it may go on later."""

    experiment: ExperimentId
    rung_s: float
    """The budget of the rung."""
    rank: int
    """Its place among those that it was held against, 1 for the best."""
    of: int
    """How many that were, it included."""
    goes_on: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentJudged(Event):
    """The judge spoke."""

    experiment: ExperimentId
    verdict: Verdict
    delta: float
    reason: str
    reference: ExperimentId
    """The experiment that it was compared with."""
    learnt: Learnt | None = None
    """What the verdict taught the judge (eval.beliefs.Learnt); null if nothing."""
    device_class: str = ""
    """On which both were measured; empty in ledgers of programs that did not tell classes apart."""
    reference_class: str = ""
    """Set with the verdicts on the baseline: the class whose scores promote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlJudged(Event):
    """A run of what was promoted before was compared with what it should have scored."""

    experiment: ExperimentId
    trial: TrialId
    slot: SlotId
    shift: float
    """By how much better it scored than was expected; negative is worse."""
    surprise: float
    """The same in standard deviations of what was to be expected."""
    is_shifted: bool
    """Noise does not explain it; the value does not count, and the slot is reported."""
    belief: Belief | None = None
    """What its tree is believed to score with it; null if no belief is held, or it has shifted."""
    since: datetime | None = None
    """When the slot's last good control ended; null if there was none."""
    reopened: tuple[ExperimentId, ...] = ()
    """Discarded experiments that would not have been without the shift: they are run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSuspected(Event):
    """A score that would be judged better shows signs of not having been earned."""

    experiment: ExperimentId
    delta: float
    """By how much it would be better."""
    reasons: tuple[str, ...]
    reference: ExperimentId
    """The experiment that it was compared with."""
