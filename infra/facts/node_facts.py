"""What a study's state says of its nodes, as JSON can hold it. Pure.

The head, where the study runs, never joined: it is there for as long as the controller lives, also
without slots.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypedDict

from cluster.state.node_state import NodeStatus
from cluster.state.state import SlotState, StudyState

RUNNING, STOPPED = "running", "stopped"
"""How the head is, while nothing is held against it."""
REFUSED_S = 600.0


class NodeSlotFacts(TypedDict):
    """How many slots of a node are how."""

    busy: int
    idle: int
    blocked: int


class NodeFacts(TypedDict):
    """A machine of the study."""

    node: str
    head: bool
    """Whether it is where the study runs, or ran last."""
    state: str
    """joined, draining, quarantined, left or refused; the head is running, stopped or
    quarantined."""
    since: str | None
    """Since when it is so; null where nobody has recorded that."""
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


def node_facts(state: StudyState, now: datetime, *, is_running: bool) -> list[NodeFacts]:
    """Return the nodes that there are or were: the head first, then by name.

    `is_running` says whether the study has a controller that lives. A refusal is told of for
    `REFUSED_S`, and not beyond the run in which it was.
    """
    begun = state.running_since if is_running else None
    old = {
        name
        for name, node in state.nodes.items()
        if node.status is NodeStatus.REFUSED
        and (begun is None or node.since < max(begun, now - timedelta(seconds=REFUSED_S)))
    }
    slots: dict[str, list[SlotState]] = {}
    for slot in state.slots.values():
        slots.setdefault(slot.node, []).append(slot)
    names = {*slots, *state.nodes, *([state.head] if state.head else [])} - old
    return [
        _node(state, name, slots.get(name, []), now, is_running=is_running)
        for name in sorted(names, key=lambda name: (name != state.head, name))
    ]


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


def _node(
    state: StudyState, name: str, slots: Iterable[SlotState], now: datetime, *, is_running: bool
) -> NodeFacts:
    there = [slot for slot in slots if slot.is_open]
    conditions = Counter(slot_condition(state, slot) for slot in there)
    known = state.nodes.get(name)
    runs = state.node_runs.get(name, ())
    how, since = _standing(state, name, is_running=is_running, is_there=bool(there))
    return {
        "node": name,
        "head": name == state.head,
        "state": how,
        "since": since.isoformat() if since else None,
        "seconds": max(0.0, (now - since).total_seconds()) if since else None,
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


def _standing(
    state: StudyState, name: str, *, is_running: bool, is_there: bool
) -> tuple[str, datetime | None]:
    """Return how a node is, and since when; the head is told by its controller."""
    known = state.nodes.get(name)
    if known is not None and (known.joins or known.status is not NodeStatus.JOINED):
        return known.status.value, known.since
    if name == state.head:
        return (RUNNING, state.running_since) if is_running else (STOPPED, None)
    return (NodeStatus.JOINED if is_there else NodeStatus.LEFT).value, None
