"""How a node is, by what happened to it, and what its workers are told."""

from collections.abc import Iterator

import msgspec
import pytest

from cluster.ledger.codec import decode_state, encode_state
from cluster.queue.nodes import modes
from cluster.queue.queue_mode import QueueMode
from cluster.state import events as ev
from cluster.state.node_state import NodeStatus
from tests.cluster.world import World
from trainer.trial import SlotId


@pytest.fixture
def world() -> Iterator[World]:
    made = World(slots=2)
    made.open_slot("cpu-0")
    made.baseline()
    yield made
    made.verify()


def joined(node: str = "alpha", **facts: object) -> ev.NodeJoined:
    about = {
        "address": "10.0.0.7",
        "incumbent": "1.0",
        "python": "3.12.3",
        "ray": "2.51.1",
        "cpus": 8,
        "memory_gb": 31.0,
        "gpus": ("NVIDIA H200",),
    }
    return ev.NodeJoined(node=node, **(about | facts))


def happen(world: World, *events: ev.Event) -> NodeStatus:
    for event in events:
        world.happen(f"event/{world.now}", event)
    return world.state.nodes["alpha"].status


LEFT = ev.NodeLeft(node="alpha", reason="fell silent", is_silent=True)
DRAIN = ev.DrainRequested(node="alpha")
SICK = ev.NodeQuarantined(node="alpha", reason="e1.1, e2.1 and e3.1 failed there alone")
WELL = ev.NodeReleased(node="alpha")
NO = ev.NodeRefused(node="alpha", address="10.0.0.7", reason="Ray 2.9.0, the study has 2.51.1")


def test_a_node_that_joined_is_known_by_what_it_said(world: World) -> None:
    happen(world, joined())
    node = world.state.nodes["alpha"]
    assert (node.status, node.address, node.ray) == (NodeStatus.JOINED, "10.0.0.7", "2.51.1")
    assert (node.cpus, node.memory_gb, node.gpus) == (8, 31.0, ("NVIDIA H200",))
    assert (node.since, node.reason, node.joins) == (world.now, "", 1)


def test_a_drained_node_leaves_and_may_join_again(world: World) -> None:
    assert happen(world, joined(), DRAIN) is NodeStatus.DRAINING
    assert modes(world.state)["alpha"] is QueueMode.DRAINING
    # Its session breaks off and comes back: it is to leave all the same.
    assert happen(world, joined()) is NodeStatus.DRAINING
    assert happen(world, LEFT) is NodeStatus.LEFT
    assert happen(world, joined(ray="2.52.0")) is NodeStatus.JOINED
    assert modes(world.state)["alpha"] is QueueMode.OPEN
    assert world.state.nodes["alpha"].ray == "2.52.0"


def test_a_quarantined_node_is_held_until_it_is_released_or_says_goodbye(world: World) -> None:
    assert happen(world, joined(), SICK) is NodeStatus.QUARANTINED
    assert modes(world.state) == {"": QueueMode.OPEN, "alpha": QueueMode.HELD}
    assert happen(world, joined()) is NodeStatus.QUARANTINED
    assert world.state.nodes["alpha"].reason == SICK.reason
    assert happen(world, WELL) is NodeStatus.JOINED
    assert happen(world, SICK, LEFT, joined()) is NodeStatus.QUARANTINED
    assert world.state.nodes["alpha"].reason == SICK.reason
    goodbye = ev.NodeLeft(node="alpha", reason="drained")
    assert happen(world, goodbye, joined()) is NodeStatus.JOINED


def test_the_head_is_quarantined_and_released_though_it_never_joined(world: World) -> None:
    world.happen("sick", ev.NodeQuarantined(node="n", reason="e1.1 failed there alone"))
    assert world.state.open_slots == 0
    assert modes(world.state)["n"] is QueueMode.HELD
    world.happen("well", ev.NodeReleased(node="n"))
    assert world.state.open_slots == 1


def test_slots_of_a_node_that_is_drained_or_quarantined_do_not_count_as_open(world: World) -> None:
    happen(world, joined())
    world.open_slot("alpha/cpu-0")
    assert world.state.open_slots == 2
    for event in (SICK, DRAIN):
        happen(world, event)
        assert world.state.open_slots == 1
        assert world.state.slots[SlotId("alpha/cpu-0")].is_open


def test_the_slots_of_a_node_that_left_are_closed(world: World) -> None:
    happen(world, joined())
    world.open_slot("alpha/cpu-0")
    happen(world, LEFT)
    slot = world.state.slots[SlotId("alpha/cpu-0")]
    assert not slot.is_open
    assert slot.note == "its node left: fell silent"
    assert world.state.slots[SlotId("cpu-0")].is_open


def test_a_refused_node_takes_nothing_from_one_of_its_name(world: World) -> None:
    assert happen(world, NO) is NodeStatus.REFUSED
    assert world.state.nodes["alpha"].reason == NO.reason
    assert happen(world, joined()) is NodeStatus.JOINED
    assert happen(world, NO) is NodeStatus.JOINED
    assert world.state.nodes["alpha"].reason == ""


def test_the_refusals_of_a_machine_end_when_it_joins_by_another_name(world: World) -> None:
    world.happen("joined", joined("beta"))
    world.happen("left", ev.NodeLeft(node="beta", reason="drained"))
    for address in ("10.0.0.7", "10.0.0.8"):
        refusal = ev.NodeRefused(node=f"beta@{address}", address=address, reason="beta is taken")
        world.happen(address, refusal)
    world.happen("again", ev.NodeRefused(node="beta", address="10.0.0.7", reason="no sandbox"))
    happen(world, joined())
    assert set(world.state.nodes) == {"alpha", "beta", "beta@10.0.0.8"}


def test_a_machine_that_is_called_like_the_head_and_refused_takes_no_slots_from_that(
    world: World,
) -> None:
    refusal = ev.NodeRefused(node=world.state.head, address="10.0.0.7", reason="Ray 2.9.0 here")
    world.happen("refused", refusal)
    assert world.state.open_slots == 1
    assert set(world.state.nodes) == {f"{world.state.head}@10.0.0.7"}


@pytest.mark.parametrize("wish", [DRAIN, WELL, LEFT])
def test_what_is_wished_of_a_node_that_is_not_there_changes_nothing(
    world: World, wish: ev.Event
) -> None:
    world.happen("wish", wish)
    assert not world.state.nodes
    for before in (NO, joined(), LEFT):
        happen(world, before)
    known = world.state.nodes
    happen(world, wish)
    assert world.state.nodes == known


def test_a_study_that_stops_sends_its_nodes_away_and_keeps_the_sick_ones_in_mind(
    world: World,
) -> None:
    happen(world, joined(), joined("beta"), ev.NodeQuarantined(node="beta", reason="it throttles"))
    happen(world, ev.ControllerStopped(epoch=1, reason="stopped"))
    assert world.state.nodes["alpha"].status is NodeStatus.LEFT
    assert world.state.nodes["alpha"].reason == "the study stopped"
    assert world.state.nodes["beta"].status is NodeStatus.QUARANTINED
    world.restart()
    assert happen(world, joined()) is NodeStatus.JOINED


def test_a_pause_or_a_stop_is_the_studys_own_mode_and_leaves_nodes_theirs(world: World) -> None:
    happen(world, joined(), ev.PauseRequested())
    assert modes(world.state) == {"": QueueMode.HELD, "alpha": QueueMode.OPEN}
    happen(world, ev.StopRequested())
    assert modes(world.state) == {"": QueueMode.DRAINING, "alpha": QueueMode.OPEN}


def test_a_snapshot_of_before_nodes_were_known_is_read(world: World) -> None:
    stored = msgspec.json.decode(encode_state(world.state))
    assert stored["v"] == 5
    stored["v"] = 4
    for name in ("nodes", "node_runs"):
        del stored["state"][name]
    found = decode_state(msgspec.json.encode(stored))
    assert not found.nodes
    assert found.experiments == world.state.experiments
