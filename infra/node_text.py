"""What there is to say of nodes, in words. Pure."""

from collections import Counter
from collections.abc import Sequence

from infra.node_facts import NodeFacts
from infra.plain_text import one_line


def nodes_words(nodes: Sequence[NodeFacts]) -> str:
    """Count the nodes by how they are, where there is more than the head."""
    if len(nodes) <= 1:
        return ""
    counts = Counter(node["state"] for node in nodes)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def node_troubles(nodes: Sequence[NodeFacts]) -> list[str]:
    """Tell of each node that does not work as it should, and why."""
    return [
        one_line(f"{node['node']} {node['state']}: {node['reason']}")
        for node in nodes
        if node["state"] in {"draining", "quarantined", "refused"}
    ]


def slots_words(node: NodeFacts) -> str:
    """Count a node's slots by how they are."""
    counts = {word: int(count) for word, count in node["slots"].items()}  # type: ignore[call-overload]
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def versions(node: NodeFacts) -> str:
    """Name the versions that a node runs, as far as it said so."""
    if not node["incumbent"]:
        return ""
    return one_line(f"{node['incumbent']}, Python {node['python']}, Ray {node['ray']}")
