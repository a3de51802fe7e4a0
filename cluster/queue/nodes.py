"""What the queue and its workers are told of nodes. Pure.

Which modes nodes are to be in follows from the state alone, as the study's own mode does: so a
controller that takes over sets what the last one would have.
"""

from collections.abc import Mapping

from cluster.queue.queue_mode import QueueMode
from cluster.state.node_state import NodeStatus
from cluster.state.state import StudyState

_MODES = {NodeStatus.DRAINING: QueueMode.DRAINING, NodeStatus.QUARANTINED: QueueMode.HELD}


def modes(state: StudyState) -> Mapping[str, QueueMode]:
    """Return what workers are to be told: all of them under "", those of a node under its name."""
    study = QueueMode.HELD if state.is_paused else QueueMode.OPEN
    if state.stopping or state.finished:
        study = QueueMode.DRAINING
    of_nodes = {name: _MODES.get(node.status, QueueMode.OPEN) for name, node in state.nodes.items()}
    return {"": study, **of_nodes}
