"""What a proposer is shown and what it hands back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from eval.metric import Metric
from trainer.trial import CommitId, ExperimentId

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One earlier experiment, as an optimiser sees it."""

    experiment: ExperimentId
    parameters: Mapping[str, Scalar]
    """Values of the constants in its tree that its patch set, by name; may be empty."""
    proposer: str
    hypothesis: str
    status: str
    """The experiment's status word."""
    value: float | None
    """Mean score; None for a failure or while it runs."""
    never_ran: Mapping[str, Scalar] = field(default_factory=dict)
    """What `parameters` were when it was proposed, if that was never run: the incumbent moved, and
    it was merged onto that with other values, or came back (with `parameters` empty)."""
    reason: str = ""
    """Why it failed, in one line, e.g. "train.py:41: undefined name 'modle'"; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One experiment that has ended, as a reader of the history sees it."""

    experiment: ExperimentId
    base: ExperimentId
    """The incumbent that its patch was made on."""
    proposer: str
    hypothesis: str
    category: str
    """The proposer's own word for the kind of change, e.g. "optimizer"; may be empty."""
    status: str
    """The experiment's status word."""
    value: float | None
    """Mean of the metric; None for a failure."""
    effect: float | None
    """Improvement over its base, positive is better; None if it was not judged."""
    effect_sd: float | None
    """Standard deviation of that; None where nothing says it."""
    reason: str
    """Why it was discarded or failed; of a crash the end of the traceback too."""
    patch: str = ""
    """Its unified diff over its base; empty if it is not at hand."""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    fixes: ExperimentId = ExperimentId("")
    """The crashed experiment that it was to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One experiment that waits or runs."""

    experiment: ExperimentId
    proposer: str
    hypothesis: str
    status: str


class TaskKind(StrEnum):
    """What a proposer can be asked for beside ideas of its own."""

    FIX = "fix"  # mend a candidate that crashed for a trivial reason
    COMPOSE = "compose"  # make one candidate of a winner and of what it conflicts with


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing that is asked of one proposer."""

    kind: TaskKind
    experiment: ExperimentId
    """Of a fix: what crashed. Of a composition: the winner that conflicts with the incumbent."""
    hypothesis: str
    problem: str
    """The end of the traceback, or the paths that conflict."""
    files: Mapping[str, str]
    """Text of every editable file of that experiment's tree, by path."""
    base_files: Mapping[str, str] = field(default_factory=dict)
    """The same of the tree that its patch was made on."""

    @property
    def key(self) -> str:
        """A name that no other task of the study has, e.g. "fix/e12"."""
        return f"{self.kind}/{self.experiment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What is left until a limit of the study is reached; None is without limit."""

    experiments: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    usd: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every proposer is shown: the incumbent's source and what was learnt so far."""

    metric: Metric
    incumbent: ExperimentId
    incumbent_value: float | None
    """None while the baseline still runs."""
    commit: CommitId
    """The commit that proposals are patches on."""
    files: Mapping[str, str]
    """Text of every editable file at `commit`, by path relative to the repository."""
    instructions: str = ""
    results: Sequence[Result] = ()
    """Results that this proposer has not been shown before, in order of their verdicts."""
    budget_s: float = 0.0
    """Seconds that one trial may train for."""
    frozen: Mapping[str, str] = field(default_factory=dict)
    """Text of frozen files that are worth reading, by path: nothing may change them."""
    guards: Sequence[str] = ()
    """Bounds on other numbers, in words, e.g. "peak_vram_mb at most 20000"."""
    history: Sequence[Past] = ()
    """All experiments that have ended, the oldest first."""
    pending: Sequence[Pending] = ()
    """What waits or runs now."""
    scratchpad: str = ""
    """What proposers and people wrote down for each other."""
    notes: Sequence[str] = ()
    """What people told all proposers, the oldest first."""
    advice: Sequence[str] = ()
    """What other proposers say for the benefit of all: a tuner's importances and best region."""
    hints: Sequence[str] = ()
    """What proposers suggested to the tuner, e.g. "suggest LR in [1e-4, 3e-3]", oldest first."""
    remaining: Remaining = field(default_factory=Remaining)
    task: Task | None = None
    """What is asked for; None asks for ideas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change to editable files, and why it might help."""

    edits: Mapping[str, str]
    """The whole new text of each changed file, by path; the files must be editable ones."""
    hypothesis: str
    """One line; becomes the commit's subject, e.g. "LR 3e-4 -> 1e-3"."""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    category: str = ""
    """The kind of change in a word or two, e.g. "optimizer"."""
    expected_effect: float | None = None
    """By how much its author expects the metric to improve, positive is better."""
    notes: str = ""
    """What its author wants to write onto the scratchpad."""
    hints: Sequence[str] = ()
    """What its author suggests to the tuner."""
    origin: str = ""
    """Which answer it is of, and which of it, e.g. "c12/0"; empty if no answer was recorded."""


class ProposerTroubled(Exception):
    """A proposer could not answer now, and may be able to later.

    `retry_after_s` is how long to leave it alone at least; the desk's back-off may be longer. One
    that `is_idle` has no ideas at present, and can do tasks all the same.
    """

    def __init__(self, reason: str, *, retry_after_s: float = 0.0, is_idle: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_idle = is_idle


class TaskGivenUp(Exception):
    """Nothing comes of a task, and asking for it again would cost the same for as little."""


class ProposerDone(Exception):
    """A proposer cannot answer any more in this run of the study, e.g. because its key is wrong."""


class Proposer(Protocol):
    """Suggests candidates.

    Called from one thread at a time. `propose` may take long (a model call) and may return fewer
    proposals than asked for; an empty answer means that it has nothing more to suggest, or of a
    task that it gives up, as TaskGivenUp does with the reason. It raises ProposerTroubled and
    ProposerDone; anything else that it raises ends a task, or else the proposer. It keeps no truth:
    after a restart it is rebuilt from the results of the ledger, shown again from the first.
    """

    @property
    def name(self) -> str:
        """A short name for logs and trailers, e.g. "tuner"; no other of the study has it."""
        ...

    @property
    def tasks(self) -> frozenset[TaskKind]:
        """What it can be asked for beside ideas of its own."""
        ...

    @property
    def advice(self) -> str:
        """What it has to say to other proposers; empty if nothing. May be read by any thread."""
        ...

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """Return up to `count` proposals on `context.commit`, or what `context.task` asks for."""
        ...
