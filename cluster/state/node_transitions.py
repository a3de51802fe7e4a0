"""What the events of nodes change. Pure. See cluster.state.transitions, of which this is a part.

A request is a wish: it changes nothing if the node is not as it would have to be.
"""

from typing import Any

from cluster.state import node_events as ne
from cluster.state.event import Event
from cluster.state.events import Recorded
from cluster.state.experiment import Status
from cluster.state.node_state import NodeState, NodeStatus
from cluster.state.proposing_transitions import without_task
from cluster.state.replacing import replace
from cluster.state.state import StudyState
from cluster.state.steps import TRANSITIONS, step
from cluster.state.study_transitions import Handler, without_slot
from trainer.trial import ExperimentId

N = NodeStatus
NODE_TRANSITIONS: dict[type[Event], dict[NodeStatus | None, NodeStatus]] = {
    # What was found or asked of a node outlasts a session that broke off: it has not left.
    ne.NodeJoined: {
        None: N.JOINED,
        N.JOINED: N.JOINED,
        N.DRAINING: N.DRAINING,
        N.QUARANTINED: N.QUARANTINED,
        N.LEFT: N.JOINED,
        N.REFUSED: N.JOINED,
    },
    # Another machine that calls itself like one that is there changes nothing of that.
    ne.NodeRefused: {None: N.REFUSED, N.LEFT: N.REFUSED, N.REFUSED: N.REFUSED},
    ne.NodeLeft: {N.JOINED: N.LEFT, N.DRAINING: N.LEFT, N.QUARANTINED: N.LEFT},
    ne.DrainRequested: {N.JOINED: N.DRAINING, N.QUARANTINED: N.DRAINING},
    # Again for what ran there at the time, and has failed since.
    ne.NodeQuarantined: {
        None: N.QUARANTINED,
        N.JOINED: N.QUARANTINED,
        N.QUARANTINED: N.QUARANTINED,
    },
    ne.NodeReleased: {N.QUARANTINED: N.JOINED},
}
"""What an event makes of a node, by how it was before; None is one that was not known, such as the
head. What is not here changes nothing."""


def _moved(state: StudyState, rec: Recorded, node: str, reason: str, **facts: Any) -> StudyState:  # noqa: ANN401 - dataclasses.replace takes any field
    """Move a node as the table says, with what is known of it from now on."""
    known = state.nodes.get(node)
    before = known.status if known else None
    after = NODE_TRANSITIONS[type(rec.event)].get(before)
    if after is None:
        return state
    is_same = known is not None and known.status is after
    new = replace(known or NodeState(node=node, status=after, since=rec.at), **facts)
    if not is_same or after in {N.JOINED, N.REFUSED}:
        new = replace(new, status=after, since=rec.at, reason=reason)
    return replace(state, nodes=state.nodes.set(node, new))


def _joined(state: StudyState, event: ne.NodeJoined, rec: Recorded) -> StudyState:
    known = state.nodes.get(event.node)
    is_new = known is None or known.status in {N.LEFT, N.REFUSED}
    state = _moved(
        state,
        rec,
        event.node,
        "",
        address=event.address,
        incumbent=event.incumbent,
        python=event.python,
        ray=event.ray,
        cpus=event.cpus,
        memory_gb=event.memory_gb,
        gpus=event.gpus,
        prepared_s=event.prepared_s,
        joins=(known.joins if known else 0) + 1,
    )
    state = _without_refusals(state, event.address)
    return _begun_anew(state, event.node) if is_new else state


def _without_refusals(state: StudyState, address: str) -> StudyState:
    """Forget why a machine was refused by names that it never joined by, now that it fits."""
    nodes = state.nodes
    for name, node in state.nodes.items():
        if node.status is N.REFUSED and node.address == address and not node.joins:
            nodes = nodes.delete(name)
    return replace(state, nodes=nodes)


def _refused(state: StudyState, event: ne.NodeRefused, rec: Recorded) -> StudyState:
    # Of another machine that calls itself like the head, the head is to know nothing.
    name = event.node if event.node != state.head else f"{event.node}@{event.address}"
    return _moved(state, rec, name, event.reason, address=event.address)


def _left(state: StudyState, event: ne.NodeLeft, rec: Recorded) -> StudyState:
    known = state.nodes.get(event.node)
    if known is None:
        return state
    if not (event.is_silent and known.status is N.QUARANTINED):
        state = _moved(state, rec, event.node, event.reason)
    for slot in state.slots.values():
        if slot.node == event.node and slot.is_open:
            state = without_slot(state, slot, f"its node left: {event.reason}")
    return state


def _drain(state: StudyState, event: ne.DrainRequested, rec: Recorded) -> StudyState:
    return _moved(state, rec, event.node, "finishes what it runs, then leaves")


def _quarantined(state: StudyState, event: ne.NodeQuarantined, rec: Recorded) -> StudyState:
    state = _moved(state, rec, event.node, event.reason)
    for name in event.reopened:
        state = _reopened(state, rec, name, event.node)
    return state


def _reopened(state: StudyState, rec: Recorded, name: ExperimentId, node: str) -> StudyState:
    """Forget the failure of an experiment that a sick node has brought about."""
    if state.experiments[name].status not in TRANSITIONS[ne.NodeQuarantined]:
        return state  # somebody has had it run again since
    reason = f"run again: {node} was at fault"
    state = step(state, rec, name, Status.PROPOSED, losses=0, reason=reason)
    return without_task(state, f"fix/{name}")


def _released(state: StudyState, event: ne.NodeReleased, rec: Recorded) -> StudyState:
    if event.node not in state.nodes:
        return state
    return _begun_anew(_moved(state, rec, event.node, "released"), event.node)


def _begun_anew(state: StudyState, node: str) -> StudyState:
    """Forget what is held against a node."""
    slots = state.slots
    for slot in state.slots.values():
        if slot.node == node and slot.shifts:
            slots = slots.set(slot.slot, replace(slot, shifts=0))
    runs = state.node_runs
    return replace(state, slots=slots, node_runs=runs.delete(node) if node in runs else runs)


NODE_HANDLERS: dict[type[Event], Handler] = {
    ne.NodeJoined: _joined,
    ne.NodeRefused: _refused,
    ne.NodeLeft: _left,
    ne.DrainRequested: _drain,
    ne.NodeQuarantined: _quarantined,
    ne.NodeReleased: _released,
}
