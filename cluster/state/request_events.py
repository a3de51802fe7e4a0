"""What people asked for, as facts of the past. See cluster.state.events for all others."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.state.event import Event
from trainer.trial import CommitId, ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionReceived(Event):
    """A user handed in a candidate: exactly one of patch, branch, settings, reverts and commit."""

    submission: str
    hypothesis: str
    priority: int = 0
    patch: str = ""
    branch: str = ""
    tip: CommitId = CommitId("")
    """Where the branch was; older ledgers do not say."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Constants by name, as `--set NAME=VALUE` spells them."""
    in_full: bool = False
    """It has no rungs: its first run is one in full."""
    reverts: ExperimentId = ExperimentId("")
    """Whose patch is to be taken out of the branch again."""
    commit: CommitId = CommitId("")
    """What somebody put onto the branch in their repository, brought over to the study's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody wants an experiment ended."""

    experiment: ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequested(Event):
    """Somebody wants an ended experiment run again."""

    experiment: ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptRequested(Event):
    """Somebody has looked at a suspect experiment and wants it judged as it is."""

    experiment: ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested(Event):
    """Start no more trials; let those that run finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested(Event):
    """Start trials again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(Event):
    """End the study's processes; `now` gives running trials back instead of finishing them."""

    now: bool = False
