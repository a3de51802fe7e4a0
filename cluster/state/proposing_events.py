"""Facts of proposing: calls and what they cost, answers, proposers in trouble, people's say."""

from dataclasses import dataclass, field
from datetime import datetime

from cluster.state.event import Event
from proposer.purse import CallId, CallPlan, Usage
from trainer.trial import ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReserved(Event):
    """A call of a model is about to be made; money was set aside for it."""

    call: CallId
    plan: CallPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled(Event):
    """A call has ended; its reply, if there is one, lies in the study's folder."""

    call: CallId
    usd: float
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    proposals: int = 0
    """How many proposals the reply holds."""
    problem: str = ""
    """Why there is no reply of use; empty if there is one."""
    is_lost: bool = False
    """Nobody knows how it ended, as its process died: it counts as what was reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused(Event):
    """A call was not made, as it could cost more than what is left of a limit."""

    proposer: str
    usd: float
    """The most that it could have cost."""
    tokens: int
    """The most tokens that it could have used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUsed(Event):
    """All that was made of some replies is recorded; they are not looked at again."""

    calls: tuple[CallId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposerFailed(Event):
    """A proposer could not answer; it is left alone for a while, and others fill the queue."""

    proposer: str
    reason: str
    retry_at: datetime
    is_idle: bool = False
    """It has no ideas at present, and can do tasks all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposerExhausted(Event):
    """A proposer has nothing more to suggest, or failed."""

    proposer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClosed(Event):
    """A proposer was asked to mend or to compose something, and nothing came of it."""

    task: str
    """Key of the task, e.g. "fix/e12"."""
    proposer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteGiven(Event):
    """Somebody told all proposers something."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveRequested(Event):
    """Somebody has looked at a candidate's patch and lets it run."""

    experiment: ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectRequested(Event):
    """Somebody has looked at a candidate's patch and does not want it run."""

    experiment: ExperimentId
    reason: str = ""
