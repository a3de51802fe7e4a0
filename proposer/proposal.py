"""What a proposer is shown and what it hands back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from eval.metric import Metric
from trainer.trial import CommitId, ExperimentId

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One earlier experiment, as a proposer sees it."""

    experiment: ExperimentId
    parameters: Mapping[str, Scalar]
    """Values of the constants in its tree that the tuner set, by name; may be empty."""
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
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change to editable files, and why it might help."""

    edits: Mapping[str, str]
    """The whole new text of each changed file, by path; the files must be editable ones."""
    hypothesis: str
    """One line; becomes the commit's subject, e.g. "LR 3e-4 -> 1e-3"."""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


class Proposer(Protocol):
    """Suggests candidates.

    Called from one thread at a time. `propose` may take long (a model call) and may return fewer
    proposals than asked for; an empty answer means that it has nothing more to suggest. It keeps no
    truth: after a restart it is rebuilt from the results of the ledger, shown again from the first.
    """

    @property
    def name(self) -> str:
        """A short name for logs and trailers, e.g. "tuner"."""
        ...

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """Return up to `count` proposals on `context.commit`."""
        ...
