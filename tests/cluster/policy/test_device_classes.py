"""Slots of several kinds: one class promotes, the others screen for it."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import stdev

import pytest

from cluster.policy import commands as cmd
from cluster.policy.verdicts import noise
from cluster.state.experiment import Status, TrialPhase
from eval.bayes import BayesJudge
from eval.judge import Verdict
from tests.cluster.world import CRASHED, METRIC, World, scored
from trainer.trial import ExperimentId, Place, TrialOutcome

E0 = ExperimentId("e0")
SMALL, LARGE = "RTX 4090", "H100"


def on(kind: str, value: float) -> TrialOutcome:
    return replace(scored(value), device_class=kind)


@pytest.fixture
def world() -> Iterator[World]:
    """Two large slots and a small one, and a baseline that scores 1.0 on the large ones."""
    made = World(slots=3)
    for slot, kind in (("gpu-0", LARGE), ("gpu-1", LARGE), ("gpu-2", SMALL)):
        made.open_slot(slot, kind)
    made.run(E0, on(LARGE, 1.0))
    yield made
    made.verify()


def screen(world: World, value: float, *, base: float = 2.0) -> ExperimentId:
    """Measure a candidate on the small slot, and its base too where that is missing."""
    candidate = world.propose()
    world.settle()
    world.start(candidate, "gpu-2")
    world.settle()
    controls = world.controls(TrialPhase.QUEUED)
    world.end(candidate, on(SMALL, value))
    world.settle()
    for experiment, trial in controls:
        world.start(experiment, "gpu-2", trial)
        world.end(experiment, on(SMALL, base), trial)
        world.settle()
    return candidate


def test_the_class_with_most_slots_promotes_and_stays_though_others_come(world: World) -> None:
    assert world.state.reference_class == LARGE
    for slot in range(3, 9):
        world.open_slot(f"gpu-{slot}", SMALL)
    world.settle()
    assert world.state.reference_class == LARGE


def test_a_baseline_that_ran_elsewhere_is_run_again_on_the_class_that_promotes() -> None:
    world = World(slots=3)
    world.plan = replace(world.plan, reference_class=LARGE)
    world.open_slot("gpu-0", SMALL)
    world.settle()
    world.run(E0, on(SMALL, 2.0))
    assert world.status("e0") is Status.QUEUED
    world.run(E0, on(LARGE, 1.0))
    assert world.status("e0") is Status.KEPT
    assert world.state.experiments[E0].values == (1.0,)
    assert world.state.experiments[E0].values_on(SMALL) == (2.0,)  # its measure for screening


def test_what_looks_bad_on_another_class_is_discarded_there(world: World) -> None:
    candidate = screen(world, 2.1)
    assert world.status(candidate) is Status.DISCARDED
    assert world.state.experiments[candidate].delta == pytest.approx(-0.1)
    assert SMALL in world.state.experiments[candidate].reason


def test_what_looks_good_on_another_class_is_run_on_the_one_that_promotes(world: World) -> None:
    candidate = screen(world, 1.9)
    assert world.status(candidate) is Status.QUEUED
    assert world.state.experiments[candidate].verdict is Verdict.REPLICATE
    world.start(candidate, "gpu-0")
    world.end(candidate, on(LARGE, 0.9))
    world.settle()
    assert world.state.lineage == (E0, candidate)
    assert world.state.experiments[candidate].values == (0.9,)


def test_scores_of_two_classes_are_never_compared(world: World) -> None:
    candidate = screen(world, 1.9)
    world.start(candidate, "gpu-0")
    world.end(candidate, on(LARGE, 1.5))  # better than any score of the small class
    world.settle()
    assert world.status(candidate) is Status.DISCARDED
    assert world.state.experiments[candidate].delta == pytest.approx(-0.5)


def test_a_class_has_the_noise_of_the_one_that_promotes_until_it_knows_its_own() -> None:
    """It learns by controls: what is screened is not repeated there."""
    world = World(slots=2, judge=BayesJudge(metric=METRIC))
    world.plan = replace(world.plan, control_every=1)
    for slot, kind in (("gpu-1", LARGE), ("gpu-2", SMALL)):
        world.open_slot(slot, kind)
    for value in (1.0, 1.001, 0.999):
        world.run(E0, on(LARGE, value))
    for value in (2.0, 2.006, 1.994, 2.005):
        assert noise(world.state, SMALL) == noise(world.state, LARGE)
        screen(world, 3.0, base=value)
    runs = world.state.experiments[E0].values_on(SMALL)
    assert runs == (2.0, 2.0, 2.006, 1.994, 2.005)  # at first as a base, and as a control
    assert noise(world.state, LARGE).sigma == pytest.approx(0.001)
    assert noise(world.state, SMALL).sigma == pytest.approx(stdev(runs))
    world.verify()


def test_further_runs_ask_for_the_class_that_promotes_and_first_ones_for_none(
    world: World,
) -> None:
    candidate = world.propose()
    [first] = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
    assert first.place == Place()
    world.settle()
    world.start(candidate, "gpu-2")
    [measure] = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
    assert (measure.experiment.id, measure.place) == (E0, Place(device_class=SMALL))
    assert measure.is_control


def test_the_base_is_measured_once_for_all_that_were_made_on_it(world: World) -> None:
    screen(world, 2.1)
    runs = len(world.state.experiments[E0].controls)
    screen(world, 2.2)
    assert len(world.state.experiments[E0].controls) == runs == 1
    assert world.state.experiments[E0].values == (1.0,)
    assert world.state.spent.controls > 0
    assert world.state.judged == 2


def test_where_the_base_cannot_run_candidates_go_to_the_class_that_promotes(
    world: World,
) -> None:
    candidate = world.propose()
    world.settle()
    world.start(candidate, "gpu-2")
    world.settle()
    [(experiment, trial)] = world.controls(TrialPhase.QUEUED)
    world.end(candidate, on(SMALL, 5.0))
    world.settle()
    assert world.status(candidate) is Status.MEASURED  # nothing to compare it with yet
    world.start(experiment, "gpu-2", trial)
    world.end(experiment, replace(CRASHED, device_class=SMALL), trial)
    world.settle()
    assert world.status(candidate) is Status.QUEUED
    assert "cannot be measured" in world.state.experiments[candidate].reason


def test_with_one_class_nothing_is_measured_twice() -> None:
    world = World(slots=2)
    world.open_slot("cpu-0")
    world.open_slot("cpu-1")
    world.baseline(1.0)
    candidate = world.propose()
    assert world.run(candidate, scored(0.9)) is Status.KEPT
    assert not dict(world.state.controls)
    assert len(world.state.experiments[candidate].trials) == 1
