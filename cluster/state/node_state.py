"""Records of nodes, and how a node may be. Plain data.

How these follow one another is `cluster.state.node_transitions`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trainer.trial import ExperimentId, SlotId, TrialId

MOST_RUNS = 12
"""How many of the latest runs on a node are remembered: a window of so many."""


class NodeStatus(StrEnum):
    """How a node is."""

    JOINED = "joined"  # its slots take trials
    DRAINING = "draining"  # it finishes what it runs, then leaves
    QUARANTINED = "quarantined"  # trials failed there by its own fault: it begins none
    LEFT = "left"  # it is gone; it may join again
    REFUSED = "refused"  # it asked to join, and does not fit or could not be prepared

    @property
    def takes_work(self) -> bool:
        """Say whether slots of such a node may begin trials."""
        return self is NodeStatus.JOINED

    @property
    def is_there(self) -> bool:
        """Say whether the machine is part of the study."""
        return self not in {NodeStatus.LEFT, NodeStatus.REFUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A machine, as far as it said what it is, and how it is. Of the head nothing but its name."""

    node: str
    status: NodeStatus
    since: datetime
    """Since when it is so."""
    reason: str = ""
    """Why, in one line; empty for one that simply joined."""
    address: str = ""
    incumbent: str = ""
    python: str = ""
    ray: str = ""
    cpus: int = 0
    memory_gb: float = 0.0
    gpus: tuple[str, ...] = ()
    prepared_s: float = 0.0
    joins: int = 0
    """How often it has joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """How an attempt at a trial ended on a node, as far as that may tell of the node."""

    trial: TrialId
    attempt: int
    experiment: ExperimentId
    slot: SlotId
    at: datetime
    failure: str = ""
    """How it failed, in one line; empty if it ran to its end."""
    is_machine: bool = False
    """It failed as things fail for a machine's reasons: lost, killed, or without a traceback."""
    is_lost: bool = False
    is_control: bool = False
