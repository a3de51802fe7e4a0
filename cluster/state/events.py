"""Facts of the past, as the ledger holds them.

Every event is frozen and says what happened, never what should. Who may write which: the controller
writes under its epoch, the queue under a lease's fencing token, and people's requests are free.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cluster.state.event import Event
from cluster.state.experiment import Kind
from cluster.state.hidden_label_events import (
    FinalBegun,
    FinalReported,
    FinalRunEnded,
    HoldoutScored,
)
from cluster.state.node_events import (
    DrainRequested,
    NodeJoined,
    NodeLeft,
    NodeQuarantined,
    NodeRefused,
    NodeReleased,
)
from cluster.state.proposing_events import (
    AnswerUsed,
    ApproveRequested,
    CallRefused,
    CallReserved,
    CallSettled,
    NoteGiven,
    ProposerFailed,
    RejectRequested,
    TaskClosed,
)
from cluster.state.reducer_events import (
    Carried,  # noqa: F401 - of which Promoted holds some
    ChainMeasured,
    MergeConflicted,
    MergeRedundant,
    Promoted,
    WinnerDropped,
    WinnerRequeued,
)
from cluster.state.request_events import (
    AcceptRequested,
    CancelRequested,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    StopRequested,
    SubmissionReceived,
)
from cluster.state.staleness_events import (
    ExperimentRebased,
    ExperimentReturned,
    RebaseConflicted,
)
from eval.beliefs import Belief, Learnt
from eval.judge import Verdict
from eval.seeds import SeedHabit
from proposer.proposal import Scalar
from trainer.trial import CommitId, ExperimentId, Place, SlotId, TrialId, TrialOutcome

# --- the study -----------------------------------------------------------------------------------


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


# --- experiments ---------------------------------------------------------------------------------


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
class ProposerExhausted(Event):
    """A proposer has nothing more to suggest, or failed."""

    proposer: str
    reason: str


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
class TrialLost(Event):
    """An attempt will never report: its lease ran out, or the study gave it back."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    reason: str
    is_given_back: bool = False
    """True when the study itself ended it; that does not count against the experiment."""


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


EVENT_TYPES: Mapping[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        StudyStarted,
        ControllerStarted,
        ControllerStopped,
        StudyFinished,
        SlotOpened,
        SlotClosed,
        NodeJoined,
        NodeRefused,
        NodeLeft,
        DrainRequested,
        NodeQuarantined,
        NodeReleased,
        SubmissionReceived,
        CancelRequested,
        RetryRequested,
        AcceptRequested,
        PauseRequested,
        ResumeRequested,
        StopRequested,
        ExperimentProposed,
        ProposalRejected,
        ExperimentRejected,
        ExperimentRebased,
        RebaseConflicted,
        ExperimentReturned,
        ProposerExhausted,
        ProposerFailed,
        CallReserved,
        CallSettled,
        CallRefused,
        AnswerUsed,
        TaskClosed,
        NoteGiven,
        ApproveRequested,
        RejectRequested,
        TrialQueued,
        TrialStarted,
        TrialGivenUp,
        TrialFinished,
        RungJudged,
        TrialLost,
        ExperimentJudged,
        ControlJudged,
        ExperimentSuspected,
        ChainMeasured,
        Promoted,
        MergeConflicted,
        MergeRedundant,
        WinnerRequeued,
        WinnerDropped,
        FinalBegun,
        FinalRunEnded,
        FinalReported,
        HoldoutScored,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event on its way into the ledger."""

    id: str
    """Appending twice under one id records one event."""
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event in the ledger."""

    seq: int
    """1 for the first event of the study, then without gaps."""
    id: str
    at: datetime
    event: Event
