"""Orders: what the controller is to do next. Plain data; performed at the edge only.

Performing a command twice does no harm: what it appends has the same event id both times, and git
and the queue compare before they set.
"""

from dataclasses import dataclass, field
from datetime import datetime

from cluster.state.events import (
    ChainMeasured,
    ControlJudged,
    Event,
    ExperimentJudged,
    ExperimentSuspected,
    NodeQuarantined,
    RungJudged,
    SubmissionReceived,
    WinnerDropped,
    WinnerRequeued,
)
from cluster.state.experiment import Experiment
from eval.control import Reading
from eval.judge import Judgement
from trainer.trial import ExperimentId, Place, SlotId, Smoke, TrialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBaseline(Command):
    """Make `e0` of the base commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTrial(Command):
    """Put a trial of an experiment into the queue."""

    experiment: Experiment
    trial: TrialId
    attempt: int
    seed: int
    priority: int
    """Higher is leased earlier."""
    smoke: Smoke | None = None
    """The run that goes before it."""
    place: Place = field(default_factory=Place)
    """Where it may run."""
    is_control: bool = False
    """It is of what was promoted before, and changes nothing of that but its score."""
    rung_s: float | None = None
    """Budget of the rung that it is on; None for a run in full."""
    is_repeat: bool = False
    """Its tree was measured before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTrial(Command):
    """Take a trial out of the queue, or have its worker end it."""

    trial: TrialId


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpTrial(Command):
    """Write down that a running trial is hopeless."""

    experiment: ExperimentId
    trial: TrialId
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneTrial(Command):
    """Have the worker of a trial that was given up end it."""

    trial: TrialId


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRung(Command):
    """Write down whether a candidate goes on from a rung."""

    judged: RungJudged


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBackTrials(Command):
    """Have every worker end what it runs and hand it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordJudgement(Command):
    """Write down a verdict."""

    experiment: ExperimentId
    judgement: Judgement
    reference: ExperimentId
    device_class: str = ""
    reference_class: str = ""

    @property
    def event(self) -> ExperimentJudged:
        """The fact that it becomes."""
        return ExperimentJudged(
            experiment=self.experiment,
            verdict=self.judgement.verdict,
            delta=self.judgement.delta,
            reason=self.judgement.reason,
            reference=self.reference,
            learnt=self.judgement.learnt,
            device_class=self.device_class,
            reference_class=self.reference_class,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordControl(Command):
    """Write down what a control said of its slot."""

    experiment: ExperimentId
    trial: TrialId
    slot: SlotId
    reading: Reading
    since: datetime | None
    reopened: tuple[ExperimentId, ...]

    @property
    def event(self) -> ControlJudged:
        """The fact that it becomes."""
        reading = self.reading
        return ControlJudged(
            experiment=self.experiment,
            trial=self.trial,
            slot=self.slot,
            shift=reading.shift,
            surprise=reading.surprise,
            is_shifted=reading.is_shifted,
            belief=None if reading.is_shifted else reading.belief,
            since=self.since,
            reopened=self.reopened,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSuspicion(Command):
    """Write down why a better score is not judged yet."""

    suspected: ExperimentSuspected


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Command):
    """Make a winner's tree the head of the branch."""

    winner: Experiment
    replaces: Experiment
    below: tuple[Experiment, ...] = ()
    """For a link of a chain: the links below it, each of which gets a commit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Command):
    """Merge a stale winner's patch onto the incumbent, as a new experiment."""

    winner: Experiment
    incumbent: Experiment
    in_chain: bool = False
    """Onto the last link of the chain that is being made instead, if there is one by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebase(Command):
    """Merge a candidate that has not begun onto the incumbent, as what it is from now on."""

    candidate: Experiment
    incumbent: Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnCandidate(Command):
    """Send a candidate that has not begun back to its proposer."""

    candidate: Experiment
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropWinner(Command):
    """Give a stale winner up."""

    winner: ExperimentId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleChain(Command):
    """Write down, all at once, what came of a chain of merges."""

    judgements: tuple[RecordJudgement, ...]
    """Of its links that were scored."""
    requeued: tuple[WinnerRequeued, ...]
    dropped: tuple[WinnerDropped, ...]
    measured: ChainMeasured

    @property
    def events(self) -> tuple[Event, ...]:
        """The facts that it becomes, in order."""
        verdicts = (judgement.event for judgement in self.judgements)
        return (*verdicts, *self.requeued, *self.dropped, self.measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialise(Command):
    """Turn a user's submission into a candidate."""

    submission: SubmissionReceived


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose(Command):
    """Ask a proposer for more candidates."""

    proposer: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTask(Command):
    """Ask a proposer to mend or to compose something."""

    proposer: str
    task: str
    """Its key, as of proposer.proposal.Task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineNode(Command):
    """Write down that a node is at fault for what failed on it."""

    cause: str
    """What it rests on, in trials: names the decision as no other about the node is named."""
    quarantined: NodeQuarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStudy(Command):
    """End the study."""

    reason: str
    failed: bool = False
