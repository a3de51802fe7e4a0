"""Trials that were lost or given back: how often they run again, and where."""

import pytest

from cluster.policy import commands as cmd
from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.policy.waves import world
from tests.cluster.world import World
from trainer.trial import Place, SlotId

__all__ = ["world"]  # the fixture


def test_a_lost_trial_runs_again_and_is_given_up_after_three(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    for attempt in (1, 2, 3):
        world.settle()
        assert world.state.experiments[experiment].trials[-1].attempt == attempt
        world.start(experiment)
        world.lose(experiment)
    assert world.status(experiment) is Status.LOST
    assert [t.id for t in world.state.experiments[experiment].trials] == [f"{experiment}.1"] * 3


def place_of_the_next_attempt(world: World, slot: str, **lost: bool) -> Place:
    """Lose an attempt on a slot; return where the next one is to run."""
    experiment = world.propose()
    world.settle()
    world.start(experiment, slot)
    world.lose(experiment, **lost)
    (command,) = (c for c in world.decide() if isinstance(c, cmd.QueueTrial))
    assert (command.experiment.id, command.attempt) == (experiment, 2)
    world.settle()
    return command.place


@pytest.mark.parametrize("is_given_back", [True, False])
def test_what_was_lost_on_a_node_goes_to_another_one_first(
    world: World, is_given_back: bool
) -> None:
    world.baseline(1.0)
    for slot in ("cpu-0", "rig/cpu-0"):
        world.open_slot(slot)
    found = place_of_the_next_attempt(world, "rig/cpu-0", is_given_back=is_given_back)
    assert found == Place(avoid="rig")


def test_what_was_lost_where_no_other_node_can_run_it_goes_there_again(world: World) -> None:
    world.baseline(1.0)
    for slot in ("rig/cpu-0", "rig/cpu-1", "gone/cpu-0"):
        world.open_slot(slot)
    world.happen("gone", ev.SlotClosed(slot=SlotId("gone/cpu-0"), reason="left"))
    assert place_of_the_next_attempt(world, "rig/cpu-0") == Place()


def test_what_the_study_gives_back_itself_does_not_count_as_lost(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    for _ in range(5):
        world.settle()
        world.start(experiment)
        world.lose(experiment, is_given_back=True)
    world.settle()
    assert world.status(experiment) is Status.QUEUED
    assert world.state.experiments[experiment].losses == 0
