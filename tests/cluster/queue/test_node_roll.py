"""What the queue actor knows of machines: who lives, who is new, whose name is taken."""

from dataclasses import replace

from cluster.queue.brief import NodeFacts, Versions
from cluster.queue.node_roll import NodeRoll, joined

VERSIONS = Versions(incumbent="1.0", ray="2.60.0", python="3.11.7")
RIG = NodeFacts(
    node="rig", id="a", address="10.0.0.7", versions=VERSIONS, cpus=8, memory_gb=32.0, gpus=("A",)
)
PATIENCE_S = 90.0


def test_a_node_is_known_until_it_has_something_new_to_say() -> None:
    roll = NodeRoll()
    assert not roll.is_known(RIG)
    roll.beat(RIG, 0.0)
    assert roll.is_known(RIG)
    assert not roll.is_known(replace(RIG, gpus=("A", "A")))


def test_what_is_recorded_of_a_node_is_what_it_says_of_itself() -> None:
    event = joined(RIG)
    assert (event.node, event.address, event.gpus) == ("rig", "10.0.0.7", ("A",))
    assert (event.incumbent, event.ray, event.python) == ("1.0", "2.60.0", "3.11.7")


def test_a_name_is_taken_while_another_machine_that_lives_has_it() -> None:
    roll = NodeRoll()
    other = replace(RIG, id="b")
    assert not roll.is_taken(RIG)
    roll.beat(RIG, 0.0)
    assert not roll.is_taken(RIG)
    assert roll.is_taken(other)
    assert roll.names() == {"rig": "a"}
    assert [left.node for left in roll.silent(PATIENCE_S + 1, PATIENCE_S)] == ["rig"]
    assert not roll.names()
    assert not roll.is_taken(other)


def test_only_silence_for_longer_than_patience_makes_a_node_leave_and_once() -> None:
    roll = NodeRoll()
    roll.beat(RIG, 0.0)
    assert not roll.silent(PATIENCE_S, PATIENCE_S)
    roll.beat(RIG, 50.0)
    assert not roll.silent(50.0 + PATIENCE_S, PATIENCE_S)
    (left,) = roll.silent(51.0 + PATIENCE_S, PATIENCE_S)
    assert left.reason == "fell silent"
    assert not roll.silent(500.0, PATIENCE_S)


def test_a_node_that_is_expected_is_new_when_it_comes_and_has_left_if_it_does_not() -> None:
    roll = NodeRoll()
    roll.expect(["rig", "other"], 0.0)
    assert not roll.is_known(RIG)
    assert not roll.is_taken(RIG)
    roll.beat(RIG, 1.0)
    roll.expect(["rig"], 2.0)
    assert roll.is_known(RIG)
    (left,) = roll.silent(PATIENCE_S + 0.5, PATIENCE_S)
    assert (left.node, left.reason) == ("other", "fell silent")


def test_who_parts_is_recorded_once_and_is_new_when_it_comes_again() -> None:
    roll = NodeRoll()
    roll.beat(RIG, 0.0)
    left = roll.part("rig", "drained")
    assert left is not None
    assert left.reason == "drained"
    assert roll.part("rig", "drained") is None
    assert not roll.is_known(RIG)


def test_a_node_that_asked_to_leave_is_leaving_until_it_has_left() -> None:
    roll = NodeRoll()
    roll.beat(RIG, 0.0)
    roll.leave("rig")
    roll.beat(replace(RIG, prepared_s=3.0), 1.0)
    assert roll.is_leaving("rig")
    roll.part("rig", "drained")
    assert not roll.is_leaving("rig")
    roll.beat(RIG, 2.0)
    roll.leave("rig")
    roll.silent(PATIENCE_S + 3, PATIENCE_S)
    assert not roll.is_leaving("rig")


def test_what_differs_from_the_head_is_named_with_both_versions() -> None:
    assert not VERSIONS.mismatch(VERSIONS)
    other = replace(VERSIONS, ray="2.61.0", python="3.12.1")
    problem = other.mismatch(VERSIONS)
    assert "Ray 2.60.0 there, 2.61.0 here" in problem
    assert "Python 3.11.7 there, 3.12.1 here" in problem
    assert "Incumbent" not in problem
