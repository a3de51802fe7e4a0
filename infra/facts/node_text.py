"""What there is to say of nodes, in words. Pure."""

from collections import Counter
from collections.abc import Sequence

from infra.facts.node_facts import STOPPED, NodeFacts
from infra.facts.plain_text import one_line


def nodes_words(nodes: Sequence[NodeFacts]) -> str:
    """Count the nodes by how they are; the head is none."""
    counts = Counter(node["state"] for node in nodes if not node["head"])
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def node_troubles(nodes: Sequence[NodeFacts]) -> list[str]:
    """Tell of each node that does not work as it should, and why."""
    ailing = {"draining", "quarantined", "refused"}
    return reasons([node for node in nodes if node["state"] in ailing])


def reasons(nodes: Sequence[NodeFacts]) -> list[str]:
    """Tell of each node why it is as it is, where there is a reason."""
    return [
        one_line(f"{node['node']} {node['state']}: {node['reason']}")
        for node in nodes
        if node["reason"]
    ]


def slots_words(node: NodeFacts) -> str:
    """Count the slots of a node that is there by how they are."""
    if node["state"] in {STOPPED, "left", "refused"}:
        return ""
    counts = {word: int(count) for word, count in node["slots"].items()}  # type: ignore[call-overload]
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "0 slots"
