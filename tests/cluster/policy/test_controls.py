"""The incumbent again on each slot now and then, and what follows when it scores otherwise."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.policy import commands as cmd
from cluster.state import events as ev
from cluster.state.experiment import Status, TrialPhase
from eval.bayes import BayesJudge
from tests.cluster.world import CRASHED, METRIC, World, scored
from trainer.trial import ExperimentId, SlotId

E0 = ExperimentId("e0")


@pytest.fixture
def world() -> Iterator[World]:
    """A study with a control after every second trial, whose noise is about 0.001."""
    made = World(slots=2, judge=BayesJudge(metric=METRIC, max_replicates=2))
    made.plan = replace(made.plan, control_every=2)
    for slot in ("cpu-0", "cpu-1"):
        made.open_slot(slot)
    made.settle()
    for value in (1.0, 1.001, 0.999):
        made.start(E0, "cpu-1")
        made.end(E0, scored(value))
        made.settle()
    yield made
    made.verify()


def control(world: World, value: float, slot: str = "cpu-0") -> ev.ControlJudged:
    """Run the control that waits for a slot, and return what became of it."""
    for experiment, trial in world.controls(TrialPhase.QUEUED):
        if world.state.controls[trial].place.slot == slot:
            world.start(experiment, slot, trial)
            world.end(experiment, scored(value), trial)
            world.settle()
            events = [recorded.event for recorded in world.ledger.read(0, limit=1000)]
            return [e for e in events if isinstance(e, ev.ControlJudged)][-1]
    raise AssertionError(f"no control waits for {slot}")


def discard(world: World, value: float, slot: str = "cpu-0") -> ExperimentId:
    candidate = world.propose()
    world.settle()
    while world.status(candidate) is Status.QUEUED:
        world.start(candidate, slot)
        world.end(candidate, scored(value))
        world.settle()
    assert world.status(candidate) is Status.DISCARDED
    return candidate


def test_the_incumbent_is_run_again_on_a_slot_after_so_many_trials_there(world: World) -> None:
    waiting = world.propose()
    world.settle()
    due = {world.state.controls[t].place.slot for _, t in world.controls(TrialPhase.QUEUED)}
    assert due == {"cpu-1"}  # it ran the baseline
    assert control(world, 1.0005, "cpu-1").is_shifted is False
    assert world.status(waiting) is Status.QUEUED
    assert world.controls(TrialPhase.QUEUED) == []
    assert world.state.slots[SlotId("cpu-1")].since_control == 0


def test_a_good_control_makes_the_incumbents_score_surer_and_is_no_experiment(
    world: World,
) -> None:
    world.propose()
    world.settle()
    before, judged = world.state.experiments[E0].belief, world.state.judged
    control(world, 1.0005, "cpu-1")
    after = world.state.experiments[E0].belief
    assert before is not None
    assert after is not None
    assert after.variance == pytest.approx(before.variance * 3 / 4)
    assert before.mean < after.mean < 1.0005
    assert world.state.experiments[E0].values == (1.0, 1.001, 0.999, 1.0005)
    assert world.state.judged == judged
    assert world.state.spent.controls == 1.0


def test_a_shift_is_reported_counts_for_nothing_and_takes_verdicts_back(world: World) -> None:
    lucky = discard(world, 1.05)  # 0.05 worse, where the slot reads 0.1 too much
    hopeless = discard(world, 1.5)
    world.propose()
    world.settle()
    told = control(world, 1.1)
    assert told.is_shifted
    assert told.shift == pytest.approx(-0.1, abs=0.01)
    assert told.reopened == (lucky,)
    assert world.state.slots[SlotId("cpu-0")].shift == told.shift
    assert world.state.experiments[E0].values == (1.0, 1.001, 0.999)
    assert world.status(lucky) is Status.QUEUED
    assert world.state.experiments[lucky].values == ()
    assert world.status(hopeless) is Status.DISCARDED
    base, patches = world.state.experiments[E0].belief, world.state.memory.patches
    world.run(lucky, scored(0.95))
    assert world.state.lineage[-1] == lucky
    # It was counted among patches when it was judged first.
    assert world.state.experiments[E0].belief == base
    assert world.state.memory.patches == patches


def test_what_somebody_has_run_again_meanwhile_is_judged_without_what_the_slot_said(
    world: World,
) -> None:
    again, cancelled = discard(world, 1.05), discard(world, 1.06)
    world.propose()
    world.settle()
    for experiment, trial in world.controls(TrialPhase.QUEUED):
        if world.state.controls[trial].place.slot == "cpu-0":
            world.start(experiment, "cpu-0", trial)
            world.end(experiment, scored(1.1), trial)
    decided = [c for c in world.decide() if isinstance(c, cmd.RecordControl)]
    assert decided[0].reopened == (again, cancelled)
    for name in (again, cancelled):
        world.happen(f"{name}/retry", ev.RetryRequested(experiment=name))
    world.happen(f"{cancelled}/cancel", ev.CancelRequested(experiment=cancelled))
    world.perform(decided[0])
    assert [world.status(name) for name in (again, cancelled)] == [
        Status.PROPOSED,
        Status.CANCELLED,
    ]
    assert world.state.experiments[again].values == ()
    world.run(again, scored(0.95))
    assert world.state.lineage[-1] == again


def test_verdicts_of_before_the_last_good_control_stand(world: World) -> None:
    old = discard(world, 1.05)
    discard(world, 1.5)
    world.propose()
    world.settle()
    assert not control(world, 1.0).is_shifted
    discard(world, 1.5)
    discard(world, 1.6)
    world.propose()
    world.settle()
    assert control(world, 1.1).reopened == ()
    assert world.status(old) is Status.DISCARDED


def test_a_control_that_fails_or_is_lost_changes_nothing(world: World) -> None:
    world.propose()
    world.settle()
    [(experiment, trial)] = world.controls(TrialPhase.QUEUED)
    world.start(experiment, "cpu-1", trial)
    world.end(experiment, CRASHED, trial)
    world.settle()
    assert world.status("e0") is Status.KEPT
    assert not dict(world.state.controls)


def test_a_control_for_a_slot_that_is_gone_is_withdrawn(world: World) -> None:
    world.propose()
    world.settle()
    world.happen("gone", ev.SlotClosed(slot=SlotId("cpu-1"), reason="gone"))
    assert any(isinstance(command, cmd.CancelTrial) for command in world.decide())
    world.settle()
    assert not dict(world.state.controls)


def test_a_study_that_ends_does_not_wait_for_a_control(world: World) -> None:
    candidate = world.propose()
    world.settle()
    assert world.controls(TrialPhase.QUEUED)
    world.plan = replace(world.plan, most_experiments=1)
    while world.status(candidate) is Status.QUEUED:
        world.start(candidate, "cpu-0")
        world.end(candidate, scored(1.5))
        world.settle()
    assert world.state.finished
    assert not dict(world.state.controls)


def test_without_anything_to_measure_there_are_no_controls(world: World) -> None:
    assert world.state.slots[SlotId("cpu-1")].since_control == 3
    assert world.decide() == ()
