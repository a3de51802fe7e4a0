"""What a study's state says of its nodes, as JSON can hold it. Pure.

The head, where the study runs, never joined: it is known by its slots, and counts as joined while
one of them is there.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TypedDict

from cluster.node_state import NodeState, NodeStatus
from cluster.state import SlotState, StudyState


class NodeSlotFacts(TypedDict):
    """How many slots of a node are how."""

    busy: int
    idle: int
    blocked: int


class NodeFacts(TypedDict):
    """A machine of the study."""

    node: str
    head: bool
    """Whether it is where the study runs, as far as one can tell: it never joined."""
    state: str
    """joined, draining, quarantined, left or refused."""
    since: str | None
    """Since when it is so; null for the head, unless it was quarantined."""
    seconds: float | None
    """For how long."""
    reason: str
    address: str
    slots: NodeSlotFacts
    devices: list[str]
    """What its slots run on, or what it said that it has."""
    incumbent: str
    python: str
    ray: str
    cpus: int
    memory_gb: float
    trials: int
    """How many of its latest trials are remembered, since it joined or was released."""
    failed: int
    """How many of those failed."""


def node_facts(state: StudyState, now: datetime) -> list[NodeFacts]:
    """Return the nodes that there are or were: the head first, then by name."""
    slots: dict[str, list[SlotState]] = {}
    for slot in state.slots.values():
        slots.setdefault(slot.node, []).append(slot)
    found = [
        _node(state, name, slots.get(name, []), now) for name in sorted({*slots, *state.nodes})
    ]
    return sorted(found, key=lambda node: not node["head"])


def slot_condition(state: StudyState, slot: SlotState) -> str:
    """Return busy, idle, blocked (it takes no work: its note says why) or closed."""
    if not slot.is_open:
        return "closed"
    if slot.trial:
        return "busy"
    return "idle" if state.takes_work(slot) else "blocked"


def slot_note(state: StudyState, slot: SlotState) -> str:
    """Return why a slot takes no work: for what it says itself, or for what its node is."""
    if slot.note or not slot.is_open or state.is_well(slot.node):
        return slot.note
    return f"{slot.node} is {state.nodes[slot.node].status}"


def _node(state: StudyState, name: str, slots: Iterable[SlotState], now: datetime) -> NodeFacts:
    there = [slot for slot in slots if slot.is_open]
    conditions = Counter(slot_condition(state, slot) for slot in there)
    known = state.nodes.get(name)
    runs = state.node_runs.get(name, ())
    return {
        "node": name,
        "head": known is None or not (known.joins or known.status is NodeStatus.REFUSED),
        "state": _status(known, is_there=bool(there)).value,
        "since": known.since.isoformat() if known else None,
        "seconds": max(0.0, (now - known.since).total_seconds()) if known else None,
        "reason": known.reason if known else "",
        "address": known.address if known else "",
        "slots": {
            "busy": conditions["busy"],
            "idle": conditions["idle"],
            "blocked": conditions["blocked"],
        },
        "devices": sorted(slot.device for slot in there) or list(known.gpus if known else ()),
        "incumbent": known.incumbent if known else "",
        "python": known.python if known else "",
        "ray": known.ray if known else "",
        "cpus": known.cpus if known else 0,
        "memory_gb": known.memory_gb if known else 0.0,
        "trials": len(runs),
        "failed": sum(bool(run.failure) for run in runs),
    }


def _status(known: NodeState | None, *, is_there: bool) -> NodeStatus:
    """Return how a node is; the head says nothing of itself but by its slots."""
    if known is not None and (known.joins or known.status is not NodeStatus.JOINED):
        return known.status
    return NodeStatus.JOINED if is_there else NodeStatus.LEFT
