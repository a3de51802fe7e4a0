"""Candidates that improve the metric at the cost of something else."""

from dataclasses import replace

import pytest

from cluster.state.events import AcceptRequested
from cluster.state.experiment import Status
from eval.guard import Guard
from tests.cluster.world import World, scored
from trainer.trial import ExperimentId, TrialOutcome

E0 = ExperimentId("e0")


def with_memory(value: float, vram: float) -> TrialOutcome:
    return replace(scored(value), metrics={"peak_vram_mb": vram})


@pytest.fixture
def world() -> World:
    world = World()
    world.plan = replace(world.plan, guards=(Guard(name="peak_vram_mb", high=20_000.0),))
    world.settle()
    return world


def test_a_better_candidate_that_breaches_a_guard_is_discarded_with_the_reason(
    world: World,
) -> None:
    world.run(E0, with_memory(1.0, 12_000.0))
    candidate = world.propose()

    assert world.run(candidate, with_memory(0.5, 21_000.0)) is Status.DISCARDED
    experiment = world.state.experiments[candidate]
    assert experiment.reason == "peak_vram_mb 21000 is above its guard's max of 20000"
    assert experiment.delta == 0.5
    assert world.state.lineage == (E0,)


def test_a_better_candidate_within_its_guards_is_kept(world: World) -> None:
    world.run(E0, with_memory(1.0, 12_000.0))

    assert world.run(world.propose(), with_memory(0.5, 20_000.0)) is Status.KEPT


def test_a_worse_candidate_keeps_the_judges_reason(world: World) -> None:
    world.run(E0, with_memory(1.0, 12_000.0))
    candidate = world.propose()

    world.run(candidate, with_memory(2.0, 21_000.0))

    assert world.state.experiments[candidate].reason == "worse"


def test_a_merge_that_breaches_a_guard_is_not_promoted(world: World) -> None:
    world.run(E0, with_memory(1.0, 12_000.0))
    first, second = world.propose(), world.propose()
    world.run(first, with_memory(0.8, 15_000.0))
    world.run(second, with_memory(0.9, 15_000.0))
    merge = world.state.experiments[second].merged_as

    assert world.run(merge, with_memory(0.7, 25_000.0)) is Status.DISCARDED
    assert world.state.lineage == (E0, first)


@pytest.mark.parametrize("outcome", [with_memory(1.0, 30_000.0), scored(1.0)])
def test_a_baseline_that_breaches_a_guard_is_looked_at_before_anything_is_searched(
    world: World, outcome: TrialOutcome
) -> None:
    assert world.run(E0, outcome) is Status.SUSPECT

    assert world.state.is_failed
    assert "peak_vram_mb" in world.state.finished
    assert "incumbent accept e0" in world.state.finished


def test_a_baseline_that_somebody_accepts_may_be_brought_within_bounds(world: World) -> None:
    world.run(E0, with_memory(1.0, 30_000.0))
    world.happen("accepted", AcceptRequested(experiment=E0))
    world.restart()
    world.settle()

    assert world.run(world.propose(), with_memory(0.9, 19_000.0)) is Status.KEPT
