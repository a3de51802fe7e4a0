"""The state of a study: a fold over its events.

Frozen, with persistent maps, so that applying an event costs what it changes. The indexes beside
`experiments` (open, trees, counts) only spare walks over all of them; `cluster.state.invariants`
holds them to what they are derived from.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from immutables import Map

from cluster.state.events import SubmissionReceived
from cluster.state.experiment import Experiment, Status
from cluster.state.final_runs import Final
from cluster.state.hidden_label_events import HoldoutScored
from cluster.state.node_state import NodeRun, NodeState
from cluster.state.proposing_events import CallRefused
from cluster.state.slot_time import SlotTime
from eval.beliefs import Memory
from proposer.purse import CallId, CallPlan, Usage
from trainer.trial import CommitId, ExperimentId, Place, SlotId, TrialId, number_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """A place where trials run."""

    slot: SlotId
    incarnation: str
    node: str
    device: str
    device_class: str
    note: str = ""
    is_open: bool = True
    trial: TrialId = TrialId("")
    """The trial that runs there; empty when idle."""
    since: datetime | None = None
    """When that trial started."""
    since_control: int = 0
    """Trials that began here since the last control."""
    checked_at: datetime | None = None
    """When the last good control ended."""
    shift: float = 0.0
    """By how much better the last control scored than expected, beyond noise; 0 if within."""
    shifts: int = 0
    """How many controls in a row scored worse like that, as far as they are held against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A run of what was promoted before, on its way or not compared yet."""

    experiment: ExperimentId
    place: Place
    is_measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRun:
    """What a candidate reached on a rung of the budget ladder."""

    experiment: ExperimentId
    budget_s: float
    device_class: str
    value: float
    """The metric at its end; no score."""

    def is_comparable(self, other: "ShortRun") -> bool:
        """Say whether another was run for as long, on the same class."""
        return (self.budget_s, self.device_class) == (other.budget_s, other.device_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonCommit:
    """What became of a commit that somebody put onto the branch in their repository."""

    submission: str
    experiment: ExperimentId = ExperimentId("")
    """Empty while there is none, and if it was rejected."""
    reason: str = ""
    """Why it was rejected; empty if it was not."""


_ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a proposer is left alone, and until when."""

    reason: str
    until: datetime
    in_a_row: int
    """How often it could not answer since it last did."""
    is_idle: bool = False
    """It has no ideas at present, and can do tasks all the same."""
    since: datetime = _ALWAYS

    def lasts(self, now: datetime) -> bool:
        """Say whether it is left alone; no longer where the clock was put back before it began."""
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposerAccount:
    """What one proposer brought and what it cost, as of now."""

    proposals: int = 0
    """Experiments and refusals that came of its answers, tasks included."""
    calls: int = 0
    """Calls of models that have ended."""
    usd: float = 0.0
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """All that the events of a study say."""

    seq: int = 0
    """Sequence number of the last event applied."""
    study: str = ""
    base_commit: CommitId = CommitId("")
    metric: str = ""
    goal: str = "minimize"
    source: str = "printed"
    """Where the metric comes from: see StudyStarted."""
    started_at: datetime | None = None
    heard_at: datetime | None = None
    """When the last event was recorded that was nobody's request: then something of it ran."""
    running_since: datetime | None = None
    """When the present controller started; None while there is none."""
    ran_s: float = 0.0
    """How long earlier controllers ran, in seconds; one that was killed until its last event."""
    away_s: float = 0.0
    """For how long nothing was heard before the present controller started, as the one before it
    was killed; 0 where that stopped."""
    epoch: int = 0
    head: str = ""
    """The machine that the latest controller runs on, or ran."""

    experiments: Map[ExperimentId, Experiment] = field(default_factory=Map)
    open: Map[ExperimentId, Status] = field(default_factory=Map)
    """Experiments that are not terminal."""
    trees: Map[str, ExperimentId] = field(default_factory=Map)
    """The first experiment of each tree."""
    counts: Map[str, int] = field(default_factory=Map)
    """Experiments by status word."""
    judged: int = 0
    """Proposals that came to a verdict or a failure of their own; what `--experiments` counts."""
    lineage: tuple[ExperimentId, ...] = ()
    """Promoted experiments whose patches the incumbent's tree holds; the last is the incumbent."""
    incumbent_commit: CommitId = CommitId("")
    """Head of the branch."""
    rejoining: tuple[ExperimentId, ...] = ()
    """Promoted experiments that a superseding winner left behind and that wait for a merge."""
    chain: tuple[ExperimentId, ...] = ()
    """Links of the chain of merges that is being measured, in order; judged all at once."""
    promotions: int = 0
    memory: Memory = field(default_factory=Memory)
    """What the judge remembers from the last verdict."""
    replicated: tuple[ExperimentId, ...] = ()
    """Experiments with several scored trials, by which noise is told: the latest of them."""

    short_runs: tuple[ShortRun, ...] = ()
    """The latest on each rung and class: what candidates there are held against."""

    reference_class: str = ""
    """The device class whose scores promote; empty before the baseline was first judged."""

    controls: Map[TrialId, Control] = field(default_factory=Map)
    """Controls on their way, or not compared yet."""
    slots: Map[SlotId, SlotState] = field(default_factory=Map)
    nodes: Map[str, NodeState] = field(default_factory=Map)
    """Machines that joined or asked to, by name; the head only once it was quarantined."""
    node_runs: Map[str, tuple[NodeRun, ...]] = field(default_factory=Map)
    """How the latest trials on each node ended, since it joined or was released."""
    submissions: tuple[SubmissionReceived, ...] = ()
    """Not yet turned into an experiment or a rejection, in order of arrival."""
    person_commits: Map[CommitId, PersonCommit] = field(default_factory=Map)
    """Commits that people put onto the branch in their repository."""
    exhausted: Map[str, str] = field(default_factory=Map)
    """Why a proposer has nothing more, by its name."""
    troubled: Map[str, Trouble] = field(default_factory=Map)
    """Proposers that could not answer when they were last asked, by name."""
    accounts: Map[str, ProposerAccount] = field(default_factory=Map)
    """By the proposer's name."""
    calls: int = 0
    """Calls of models that were reserved."""
    reserved: Map[CallId, CallPlan] = field(default_factory=Map)
    """Calls that have not ended."""
    replies: Map[CallId, CallPlan] = field(default_factory=Map)
    """Calls that brought a reply, of which not all is recorded that is made of it."""
    refused: CallRefused | None = None
    """The last call that a limit did not allow."""
    tasks: tuple[str, ...] = ()
    """Keys of what a proposer could be asked to mend or compose, the oldest first; the latest."""
    notes: tuple[str, ...] = ()
    """What people told all proposers, the oldest first."""
    hints: tuple[str, ...] = ()
    """What proposers suggested to the tuner, the oldest first; the latest."""
    syntaxes: Map[str, ExperimentId] = field(default_factory=Map)
    """The first experiment of each digest of syntax trees."""
    rejections_in_a_row: int = 0
    """Proposals that cost nothing since the last trial was queued."""
    slot_seconds: float = 0.0
    """Time that trials held slots."""
    spent: SlotTime = field(default_factory=SlotTime)
    """The same by purpose, as far as the program that ran the trials told purposes apart."""
    recent: tuple[datetime, ...] = ()
    """When the last proposals were judged, oldest first; for the rate."""
    used_up: int = 0
    """Proposals that came to such an end and had held a slot: not what was rebuilt from git."""

    holdouts: tuple[HoldoutScored, ...] = ()
    """What the holdout said of promoted experiments, in order."""
    finals: tuple[Final, ...] = ()
    """Final runs, in order."""

    is_paused: bool = False
    stopping: str = ""
    """"" while the study runs; "finish" or "now" once a stop was asked for."""
    finished: str = ""
    """Why the study ended by itself; empty while it has not."""
    is_failed: bool = False

    @property
    def incumbent(self) -> Experiment | None:
        """The best so far; None until the baseline was scored."""
        return self.experiments[self.lineage[-1]] if self.lineage else None

    @property
    def baseline(self) -> Experiment | None:
        """The unmodified start; None until it was queued."""
        return self.experiments.get(ExperimentId("e0"))

    def running_s(self, now: datetime) -> float:
        """Return for how many seconds the study has run, not counting what lay between."""
        since = self.running_since
        # The clock may have been put back since.
        return self.ran_s + (max(0.0, (now - since).total_seconds()) if since else 0.0)

    @property
    def usd(self) -> float:
        """US dollars that calls have cost, and that those on their way may cost."""
        spent = sum(account.usd for account in self.accounts.values())
        return spent + sum(plan.usd for plan in self.reserved.values())

    @property
    def tokens(self) -> int:
        """The same in tokens."""
        used = sum(account.usage.total for account in self.accounts.values())
        return used + sum(plan.tokens for plan in self.reserved.values())

    @property
    def next_experiment(self) -> ExperimentId:
        """The id that the next candidate gets."""
        return ExperimentId(f"e{len(self.experiments)}")

    @property
    def open_slots(self) -> int:
        """How many slots take work."""
        return sum(map(self.takes_work, self.slots.values()))

    def takes_work(self, slot: SlotState) -> bool:
        """Say whether a slot begins trials: it is there, nothing is wrong with it or its node."""
        return slot.is_open and not slot.note and self.is_well(slot.node)

    def is_well(self, node: str) -> bool:
        """Say whether a node may begin trials; the head may unless it is quarantined."""
        known = self.nodes.get(node)
        return known is None or known.status.takes_work

    def count(self, *statuses: Status) -> int:
        """Return how many experiments are of one of these statuses."""
        return sum(self.counts.get(status, 0) for status in statuses)

    def opened(self, status: Status) -> list[Experiment]:
        """Return the open experiments of a status, the oldest first."""
        if not self.count(status):
            return []  # mostly so, and it spares a walk over all that is open
        found = (self.experiments[e] for e, s in self.open.items() if s is status)
        return sorted(found, key=lambda experiment: number_of(experiment.id))
