"""What slots were used for, and how much of their time proof may take."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.ledger.codec import decode_state, encode_state
from cluster.policy import commands as cmd
from cluster.policy.study_plan import Seat
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.slot_time import Purpose, SlotTime
from eval.sequential import SequentialJudge
from tests.cluster.world import CRASHED, METRIC, World, scored
from trainer.trial import ExperimentId, SlotId


@pytest.fixture
def world() -> Iterator[World]:
    """A study whose judge tests all that looks better; its state is verified after the test."""
    made = World(slots=2, judge=SequentialJudge(metric=METRIC, confidence=0.5))
    for value in (1.0, 1.001, 0.999):
        made.run(ExperimentId("e0"), scored(value))
    yield made
    made.verify()


def test_the_time_of_a_study_is_told_apart_by_what_it_was_for(world: World) -> None:
    assert world.state.spent == SlotTime(search=3.0)  # a trial on paper takes one second
    candidate = world.propose()
    world.run(candidate, scored(0.99))
    assert world.status(candidate) is Status.QUEUED  # to be tested
    world.run(candidate, CRASHED)
    assert world.state.spent == SlotTime(search=4.0, replicates=1.0)
    assert world.state.spent.total == world.state.slot_seconds


def test_a_lost_replicate_is_still_time_for_proof(world: World) -> None:
    candidate = world.propose()
    world.run(candidate, scored(0.99))
    world.start(candidate)
    world.lose(candidate)
    assert world.state.spent == SlotTime(search=4.0, replicates=1.0)


def test_a_trial_that_was_lost_with_the_machine_held_no_slot_until_somebody_came_back(
    world: World,
) -> None:
    before = world.state.slot_seconds
    candidate = world.propose()
    world.settle()
    world.start(candidate)
    world.now += timedelta(minutes=5)
    world.happen("news", ev.SlotClosed(slot=SlotId("cpu-1"), reason="gone"))
    world.now += timedelta(hours=60)  # a power cut, on a Friday evening
    world.restart()
    world.now += timedelta(minutes=1)
    world.lose(candidate)
    assert world.state.slot_seconds - before == pytest.approx(360, abs=5)
    world.settle()
    world.start(candidate)
    world.now += timedelta(minutes=5)
    world.lose(candidate)
    assert world.state.slot_seconds - before == pytest.approx(660, abs=10)


def test_proof_waits_beyond_its_share_while_there_is_something_else_to_run(world: World) -> None:
    world.plan = replace(world.plan, replicate_share=0.1)
    other = world.propose()
    candidate = world.propose()
    world.settle()
    world.start(candidate, "cpu-1")
    world.end(candidate, scored(0.99))
    world.settle()
    assert world.status(candidate) is Status.PROPOSED
    assert world.state.experiments[candidate].values == (0.99,)
    world.run(other, scored(2.0))
    assert world.status(candidate) is Status.QUEUED  # a slot would be idle


def test_within_its_share_proof_is_not_held_up(world: World) -> None:
    world.plan = replace(world.plan, replicate_share=0.3)
    other = world.propose()
    candidate = world.propose()
    world.settle()
    world.start(candidate, "cpu-1")
    world.end(candidate, scored(0.99))
    world.settle()
    assert world.status(candidate) is Status.QUEUED
    assert world.status(other) is Status.QUEUED


def test_candidates_are_asked_for_as_if_what_is_held_back_were_not_there(world: World) -> None:
    world.plan = replace(world.plan, replicate_share=0.0, proposers=(Seat(name="test"),))
    world.asked = 0
    others = [world.propose() for _ in range(2)]
    candidate = world.propose()
    world.settle()
    world.start(candidate, "cpu-1")
    world.end(candidate, scored(0.99))
    world.settle()
    world.start(others[0], "cpu-0")
    world.asked = 0
    assert world.status(candidate) is Status.PROPOSED
    # Two slots, and one candidate is ready.
    assert cmd.Propose(proposer="test", count=1) in world.decide()


@pytest.mark.parametrize(
    ("proving", "share", "fits"), [(0, 0.3, True), (2, 0.3, False), (2, 0.5, True), (0, 0.0, False)]
)
def test_what_is_on_its_way_counts_as_if_it_had_ended(
    proving: int, share: float, fits: bool
) -> None:
    spent = SlotTime(search=60.0, replicates=10.0)
    found = spent.leaves_for_proof(share, proving=proving, others=0, run_s=10.0)
    assert found is fits


def test_each_purpose_has_a_field_of_its_own() -> None:
    for purpose in Purpose:
        assert SlotTime().plus(purpose, 5.0).total == 5.0


def test_a_snapshot_of_an_earlier_version_tells_what_held_a_slot() -> None:
    world = World()
    world.baseline(1.0)
    for _ in range(3):
        world.run(world.propose(), scored(2.0))
    stored = json.loads(encode_state(world.state))
    assert stored["state"].pop("used_up") == 3
    assert decode_state(json.dumps(stored).encode()) == world.state
