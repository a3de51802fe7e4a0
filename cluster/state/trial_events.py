"""Facts of trials: each attempt is queued, mostly started, and finished or lost."""

from dataclasses import dataclass, field

from cluster.state.event import Event
from trainer.trial import ExperimentId, Place, SlotId, TrialId, TrialOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialQueued(Event):
    """A trial waits for a slot."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    seed: int
    place: Place = field(default_factory=Place)
    """Where it may run; anywhere, unless it says otherwise."""
    is_control: bool = False
    """It is of what was promoted before: a control, or a measurement on a further device class."""
    rung_s: float | None = None
    """Budget of the rung that it is on; null for a run in full, which alone is a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted(Event):
    """A worker leased a trial."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    slot: SlotId
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialGivenUp(Event):
    """A running trial's curve is hopeless; its worker is told to end it."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFinished(Event):
    """A trial ended and its result was accepted, once."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    outcome: TrialOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLost(Event):
    """An attempt will never report: its lease ran out, or the study gave it back."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    reason: str
    is_given_back: bool = False
    """True when the study itself ended it; that does not count against the experiment."""
