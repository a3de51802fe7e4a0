"""Facts of the study itself: when it and its controllers began and ended, and its slots."""

from dataclasses import dataclass

from cluster.state.event import Event
from trainer.trial import CommitId, SlotId


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStarted(Event):
    """A study began, from this commit."""

    study: str
    base_commit: CommitId
    metric: str
    goal: str
    source: str = "printed"
    """Where the metric comes from: `printed` or `predictions`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStarted(Event):
    """A controller took over; those of earlier epochs can append nothing more."""

    epoch: int
    pid: int
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStopped(Event):
    """The controller of this epoch ended in good order."""

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFinished(Event):
    """A limit was reached or there is nothing left to do."""

    reason: str
    failed: bool = False
    """True when the study cannot go on, e.g. because the baseline crashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOpened(Event):
    """A worker presented itself, for the first time or with something new to say."""

    slot: SlotId
    incarnation: str
    node: str
    device: str
    device_class: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotClosed(Event):
    """A slot is gone."""

    slot: SlotId
    reason: str
