"""The shapes of what `--json` prints; tables and live views are drawn from the same.

A number that there is none of is null, never NaN; times are ISO 8601 with their offset.
"""

from typing import Any, NotRequired, TypedDict

from infra.facts.final_facts import FinalFacts
from infra.facts.holdout_facts import HoldoutFacts
from infra.facts.node_facts import NodeFacts
from infra.facts.proposer_records import CallFacts, CostFacts, ProposerFacts, TaskFacts


class MetricFacts(TypedDict):
    """What is improved."""

    name: str
    goal: str


class BeliefFacts(TypedDict):
    """A true value as a judge sees it: normal about `mean`."""

    mean: float
    sd: float


class NoiseFacts(TypedDict):
    """How much two runs of the same code differ."""

    sigma: float
    """Standard deviation of a run, in the metric's unit."""
    dof: int
    """Degrees of freedom it rests on; its relative error is about 1 / sqrt(2 dof)."""
    runs: dict[str, int]
    """What it was estimated from: of each experiment that was run again, how many runs."""
    outlier: bool
    """One experiment's runs were left out, as they differ far more than all others."""
    device_class: str


class BaselineFacts(TypedDict):
    """The unmodified start."""

    experiment: str
    commit: str
    score: float | None


class IncumbentFacts(TypedDict):
    """The best so far."""

    experiment: str
    commit: str
    """Head of the branch."""
    score: float | None
    hypothesis: str
    improvement: float | None
    """Over the baseline, in the metric's unit; positive is better."""
    improvement_percent: float | None
    """The same, of the baseline's absolute score."""
    belief: BeliefFacts | None
    """What verdicts say of its true score; null under a judge that keeps no beliefs."""


class TimeFacts(TypedDict):
    """How the latest scored trials spent their time."""

    trials: int
    """How many trials this is told of."""
    stages_s: dict[str, float]
    """Median seconds by stage (trainer.trial.TrialOutcome), over the trials that tell it."""
    training_share: float | None
    """Median share of `train` in which steps were made; null where no log counts steps."""


class SpentFacts(TypedDict):
    """Hours that ended trials held slots, by what they were for (see SlotTime)."""

    search: float
    replicates: float
    merges: float
    controls: float


class StartFacts(TypedDict):
    """What had been done for the latest trials when their turn came (trainer.run_start.Start)."""

    warm: int
    gate: int
    cold: int
    reason: str
    """The commonest for which imports had not been done; empty if all had."""
    reason_trials: int
    """How many trials it holds for."""


class SlotFacts(TypedDict):
    """A slot, and what it runs."""

    slot: str
    node: str
    device: str
    device_class: str
    state: str
    """busy, idle, blocked (see `note`) or closed."""
    note: str
    trial: str
    experiment: str
    hypothesis: str
    seconds: float | None
    """For how long the trial has run."""
    last_line: str
    """The last line that the trial printed."""
    points: dict[str, float]
    """The latest numbers of its curve."""
    shift: float
    """By how much better the slot's last control scored than expected; 0 if within noise."""
    checked_at: str | None
    """When its last good control ended."""


class RungStepFacts(TypedDict):
    """A rung of the budget ladder."""

    budget_s: float
    keep: float
    completed: int
    """Candidates that got through it."""
    stopped: int
    """Of these, those that are stopped there; they may still go on."""


class RungFacts(TypedDict):
    """The budget ladder, and whether candidates climb it."""

    off: str
    """Why they do not; empty if they do."""
    steps: list[RungStepFacts]


class QueueFacts(TypedDict):
    """Experiments on their way."""

    submitted: int
    """By people, and no experiment yet."""
    held: int
    """Wait for somebody's approval."""
    ready: int
    running: int


class ExperimentFacts(TypedDict):
    """One experiment, as `log` lists it."""

    id: str
    kind: str
    status: str
    score: float | None
    delta: float | None
    """Improvement over what it was judged against; positive is better."""
    commit: str
    promoted: str
    """Its commit on the branch; empty if it was not promoted."""
    base: str
    proposer: str
    hypothesis: str
    seconds: float
    """Wall-clock time of its trials."""
    slot: str
    node: str
    reason: str
    crash: str
    """What kind of crash it was (trainer.trial.CrashKind); empty if it did not crash."""
    marks: list[str]
    """What was odd about the conditions of any of its trials (eval.conditions.Mark); and
    "changes the seed", where its patch does."""


class StatusFacts(TypedDict):
    """A study at one moment."""

    study: str
    branch: str
    phase: str
    """What the study is doing, in words."""
    notice: str
    """What people should know and perhaps do, e.g. why the branch in their repository waits."""
    running: bool
    """Whether a controller is alive."""
    paused: bool
    stopping: str
    finished: str
    failed: bool
    started_at: str | None
    seconds: float
    """Since it first started."""
    running_seconds: float
    """For how long it has run, which is what `[limits] hours` counts."""
    metric: MetricFacts
    incumbent: IncumbentFacts
    baseline: BaselineFacts
    noise: NoiseFacts | None
    """Null while no experiment has several scored trials."""
    holdout: HoldoutFacts | None
    """Null where nothing was scored by a holdout."""
    finals: list[FinalFacts]
    """Final runs, in order."""
    experiments: dict[str, int]
    """How many there are of each status."""
    judged: int
    promotions: int
    rate_per_hour: float
    queue: QueueFacts
    reference_class: str
    """The device class whose scores promote; empty before the baseline was judged."""
    rungs: RungFacts | None
    """Null where there are none."""
    slots: list[SlotFacts]
    nodes: list[NodeFacts]
    """The head first, then by name."""
    slot_hours: float
    """Of trials that have ended."""
    spent: SpentFacts
    proposers: list[ProposerFacts]
    """By name."""
    models: CostFacts
    time: TimeFacts
    starts: StartFacts
    limits: dict[str, float]
    paths: dict[str, str]
    recent: list[ExperimentFacts]
    """The experiments that came to an end last, the latest first."""


class TrialFacts(TypedDict):
    """One attempt at one execution."""

    trial: str
    attempt: int
    phase: str
    seed: int
    slot: str
    node: str
    queued_at: str
    started_at: str | None
    finished_at: str | None
    seconds: float
    rung_s: float | None
    """Budget of the rung that it is on; null for a run in full, which alone is a score."""
    marks: list[str]
    """What was odd about its conditions (eval.conditions.Mark)."""
    set_aside: bool
    """Its value does not count: it was suspect and the experiment was retried, or its slot had
    shifted."""
    outcome: dict[str, Any] | None
    """The trial's record (trainer.trial.TrialOutcome), field by field."""


class StoryFacts(TypedDict):
    """One event of an experiment's story."""

    seq: int
    event: str
    at: NotRequired[str]
    text: NotRequired[str]


class MergeFacts(TypedDict):
    """One merge of an experiment's patch onto another tree."""

    experiment: str
    status: str
    onto: str
    """The incumbent of then, or the link of a chain before it."""
    chain: str
    """The chain's first link; empty for a merge by itself."""
    score: float | None
    delta: float | None
    reason: str


class RevertFacts(TypedDict):
    """One experiment that takes a patch out of the branch again."""

    experiment: str
    status: str


class ShowFacts(ExperimentFacts):
    """Everything about one experiment."""

    next: str
    """What to do about it, in one line, where its last words tell (hints.py); else empty."""
    category: str
    """Its proposer's word for the kind of change; may be empty."""
    expected_effect: float | None
    """By how much its proposer expected the metric to improve; positive is better."""
    call: CallFacts | None
    """Null where no model was asked, or its call is not at hand."""
    task: TaskFacts | None
    """Null for an idea of its proposer's own."""
    notes: str
    """What its author wrote onto the scratchpad with it."""
    tree: str
    base_commit: str
    rebased_from: list[str]
    """The bases that it had before it began, oldest first; empty if it was never rebased."""
    lines: int
    accepted: bool
    """Somebody had it judged though it was suspect."""
    parameters: dict[str, bool | int | float | str]
    priority: int
    proposed_at: str
    judged_at: str | None
    verdict: str | None
    values: list[float]
    standard_error: float | None
    belief: BeliefFacts | None
    """Its tree's true score, by all verdicts so far."""
    effect: BeliefFacts | None
    """Its patch's true improvement, as it was judged; positive is better."""
    chance: float | None
    """Probability that it is better than its base, as it was judged."""
    device_class: str
    generation: int
    merge_of: str
    merged_as: str
    seeds: str | None
    """What its tree does about its seed, where its patch changes that (eval.seeds.SeedHabit)."""
    chain: str
    """For a link of a chain of merges: the chain's first."""
    person_commit: str
    """The commit on the branch in the user's repository that it was made of; mostly empty."""
    reverts: str
    """For a revert and its merges: whose patch it takes out of the branch again; else empty."""
    reverted_by: list[RevertFacts]
    """All that take its patch out, oldest first."""
    merges: list[MergeFacts]
    """All that carried its patch, oldest first."""
    paths: dict[str, str]
    """`log` and `output` (what was left in INCUMBENT_OUT) of its latest trial that has one."""
    trials: list[TrialFacts]
    controls: list[TrialFacts]
    """Its trials after it was promoted."""
    story: list[StoryFacts]
