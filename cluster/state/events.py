"""Facts of the past, as the ledger holds them.

Every event is frozen and says what happened, never what should. Who may write which: the controller
writes under its epoch, the queue under a lease's fencing token, and people's requests are free.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cluster.state.event import Event
from cluster.state.experiment_events import (
    ControlJudged,
    ExperimentJudged,
    ExperimentProposed,
    ExperimentRejected,
    ExperimentSuspected,
    ProposalRejected,
    RungJudged,
)
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
    ProposerExhausted,
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
from cluster.state.study_events import (
    ControllerStarted,
    ControllerStopped,
    SlotClosed,
    SlotOpened,
    StudyFinished,
    StudyStarted,
)
from cluster.state.trial_events import (
    TrialFinished,
    TrialGivenUp,
    TrialLost,
    TrialQueued,
    TrialStarted,
)

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
