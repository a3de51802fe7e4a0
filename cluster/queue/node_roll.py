"""Which nodes have joined and live: what the queue actor knows of machines, by their beats.

One that was killed has forgotten that, and hears from the ledger whom it should hear from.

Pure but for the ledger's words: it says what is to be recorded, and records nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.queue.brief import NodeFacts, Refusal
from cluster.state.node_events import NodeJoined, NodeLeft, NodeRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    facts: NodeFacts | None
    """None of a node that has not been heard of yet."""
    at: float


class NodeRoll:
    """Nodes by name. Times are seconds of a clock that does not jump."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._leaving: set[str] = set()

    def is_taken(self, facts: NodeFacts) -> bool:
        """Say whether another machine that lives goes by this name."""
        known = self._seen.get(facts.node)
        return known is not None and known.facts is not None and known.facts.id != facts.id

    def names(self) -> Mapping[str, str]:
        """Return the names of machines that live, each with the id of the one that has it."""
        return {name: seen.facts.id for name, seen in self._seen.items() if seen.facts is not None}

    def is_known(self, facts: NodeFacts) -> bool:
        """Say whether just this is known of the node: then there is nothing to be recorded."""
        known = self._seen.get(facts.node)
        return known is not None and known.facts == facts

    def beat(self, facts: NodeFacts, now: float) -> None:
        """Note that a node lives."""
        self._seen[facts.node] = _Seen(facts=facts, at=now)

    def expect(self, nodes: Iterable[str], now: float) -> None:
        """Note that nodes had joined; those that are not heard of in time have fallen silent."""
        for node in nodes:
            self._seen.setdefault(node, _Seen(facts=None, at=now))

    def leave(self, node: str) -> None:
        """Note that a node has asked to leave: it is to begin nothing more."""
        self._leaving.add(node)

    def is_leaving(self, node: str) -> bool:
        """Say whether a node has asked to leave, and is there still."""
        return node in self._leaving

    def part(self, node: str, reason: str, *, is_silent: bool = False) -> NodeLeft | None:
        """Forget a node; return what is to be recorded, if it was known."""
        self._leaving.discard(node)
        if self._seen.pop(node, None) is None:
            return None
        return NodeLeft(node=node, reason=reason, is_silent=is_silent)

    def silent(self, now: float, patience_s: float) -> Sequence[NodeLeft]:
        """Forget nodes that have not been heard of for so long; return what is to be recorded."""
        over = [name for name, seen in self._seen.items() if now - seen.at > patience_s]
        parted = [self.part(name, "fell silent", is_silent=True) for name in over]
        return [left for left in parted if left is not None]


def joined(facts: NodeFacts) -> NodeJoined:
    """Return what is to be recorded of a node that is new, or has something new to say."""
    return NodeJoined(
        node=facts.node,
        address=facts.address,
        incumbent=facts.versions.incumbent,
        python=facts.versions.python,
        ray=facts.versions.ray,
        cpus=facts.cpus,
        memory_gb=facts.memory_gb,
        gpus=facts.gpus,
        prepared_s=facts.prepared_s,
    )


def refused(refusal: Refusal) -> NodeRefused:
    """Return what is to be recorded of a node that does not fit."""
    return NodeRefused(node=refusal.node, address=refusal.address, reason=refusal.reason)
