"""Facts of nodes: machines that join a study, are drained or put aside, and leave.

The queue actor writes what a node does by itself (joined, refused, left), the controller what it
concludes (quarantined), people what they ask for (drain, release). The head, where the study runs,
never joins: it is known by its controller.
"""

from dataclasses import dataclass

from cluster.state.event import Event
from trainer.trial import ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoined(Event):
    """A machine is prepared, and its slots are about to present themselves."""

    node: str
    """Its name, unique in the study."""
    address: str
    incumbent: str
    """Its version of Incumbent; those of Python and Ray are the next two."""
    python: str
    ray: str
    cpus: int
    memory_gb: float
    gpus: tuple[str, ...] = ()
    """What its cards are called."""
    prepared_s: float = 0.0
    """How long its environment and set-up took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRefused(Event):
    """A machine asked to join and does not fit, or could not be prepared."""

    node: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLeft(Event):
    """A machine said goodbye or fell silent; its slots are gone, their leases run out."""

    node: str
    reason: str
    is_silent: bool = False
    """Whether nobody said so: a session that breaks off ends no quarantine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequested(Event):
    """Somebody wants a node to finish what it runs, then to leave."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQuarantined(Event):
    """A node is at fault for trials that failed on it: it begins no more.

    Told again where a trial that was on it at the time has failed since.
    """

    node: str
    reason: str
    reopened: tuple[ExperimentId, ...] = ()
    """Experiments that failed there, and there alone: they are run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReleased(Event):
    """Somebody says that a quarantined node is well again."""

    node: str
