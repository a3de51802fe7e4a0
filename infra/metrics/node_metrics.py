"""Metrics of nodes. Does not know how metrics are served."""

from collections import Counter
from collections.abc import Mapping

from cluster.state.node_state import NodeStatus
from cluster.state.state import StudyState
from infra.facts.node_facts import RUNNING, node_facts
from infra.metrics.metric_description import MetricDescription, Samples

METRICS = (
    MetricDescription(
        name="incumbent_nodes",
        type="gauge",
        labels=("state",),
        help="Machines by how they are; the head is running, or quarantined.",
    ),
    MetricDescription(
        name="incumbent_node_slots",
        type="gauge",
        labels=("node", "state"),
        help="Slots of each node that are there: busy, idle or blocked.",
    ),
)


def samples(state: StudyState) -> Mapping[str, Samples]:
    """Return the values as of a state."""
    if state.heard_at is None:
        return {metric.name: {} for metric in METRICS}
    nodes = node_facts(state, state.heard_at, is_running=True)  # who measures is its controller
    counts = Counter(node["state"] for node in nodes)
    slots: Samples = {
        (node["node"], word): float(count)  # type: ignore[arg-type]
        for node in nodes
        for word, count in node["slots"].items()
    }
    return {
        "incumbent_nodes": {(word,): float(counts[word]) for word in (RUNNING, *NodeStatus)},
        "incumbent_node_slots": slots,
    }
