"""Scores that look unearned."""

from dataclasses import replace

from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.policy.waves import two_of_one_wave, world
from tests.cluster.world import World, gamed, scored
from trainer.trial import ExperimentId

__all__ = ["world"]  # the fixture


def accept(world: World, experiment: ExperimentId) -> Status:
    world.happen(f"accept/{world.state.seq}", ev.AcceptRequested(experiment=experiment))
    world.settle()
    return world.status(experiment)


def test_a_better_score_that_looks_unearned_waits_for_a_look(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    assert world.run(experiment, gamed(0.1)) is Status.SUSPECT
    found = world.state.experiments[experiment]
    assert found.reason == "prepare.py was changed while the trial ran"
    assert (found.delta, found.verdict) == (0.9, None)
    assert world.state.lineage == ("e0",)
    assert world.state.judged == 1
    assert world.decide() == ()
    assert accept(world, experiment) is Status.KEPT
    assert world.state.judged == 1


def test_a_worse_score_that_looks_unearned_is_discarded_with_a_word_on_it(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    assert world.run(experiment, gamed(1.5)) is Status.DISCARDED
    assert world.state.experiments[experiment].reason == (
        "worse; suspect besides: prepare.py was changed while the trial ran"
    )


def test_what_was_accepted_is_judged_as_any_other(world: World) -> None:
    world.baseline(1.0)
    experiment, better = world.propose(), world.propose()
    world.run(experiment, gamed(0.5))
    world.run(better, scored(0.4))
    assert accept(world, experiment) is Status.MERGING, "it is stale by now"
    assert accept(world, better) is Status.KEPT, "a wish about what is not suspect changes nothing"


def test_what_was_accepted_is_no_sign_in_what_is_made_on_it_alone(world: World) -> None:
    world.baseline(1.0)
    first, beside = world.propose(), world.propose()
    world.run(first, gamed(0.5))
    accept(world, first)
    assert world.run(beside, gamed(0.4)) is Status.SUSPECT
    assert world.run(world.propose(), gamed(0.3)) is Status.KEPT


def test_what_was_accepted_is_no_sign_in_its_merge(world: World) -> None:
    world.baseline(1.0)
    accepted, honest = world.propose(), world.propose()
    world.run(accepted, gamed(0.5))
    world.run(honest, scored(0.4))
    assert accept(world, accepted) is Status.MERGING
    (merge,) = world.in_status(Status.QUEUED)
    assert world.run(merge, gamed(0.3)) is Status.KEPT


def test_a_retry_of_a_suspect_sets_its_score_aside(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.run(experiment, gamed(0.1))
    for again in range(2):  # the judgement's event must not be taken for an earlier one
        world.happen(f"r{again}", ev.RetryRequested(experiment=experiment))
        assert world.run(experiment, gamed(0.1)) is Status.SUSPECT
        assert world.state.experiments[experiment].values == (0.1,)
    world.happen("r", ev.RetryRequested(experiment=experiment))
    assert world.run(experiment, scored(0.8)) is Status.KEPT
    assert world.state.experiments[experiment].values == (0.8,)


def test_a_suspect_merge_ends_what_it_merges_and_can_be_accepted(world: World) -> None:
    _, stale = two_of_one_wave(world, 0.4, 0.5)
    (merge,) = world.in_status(Status.QUEUED)
    assert world.run(merge, gamed(0.1)) is Status.SUSPECT
    assert world.status(stale) is Status.DROPPED
    assert "which was suspect" in world.state.experiments[ExperimentId(stale)].reason
    assert accept(world, merge) is Status.KEPT
    assert world.status(stale) is Status.MERGED
    assert world.state.experiments[ExperimentId(stale)].reason == f"on the branch by way of {merge}"


def test_a_stopping_study_still_says_what_is_suspect(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    world.happen("s", ev.StopRequested())
    world.end(experiment, gamed(0.1))
    world.settle()
    assert world.status(experiment) is Status.SUSPECT


def test_a_baseline_that_cannot_be_ends_the_study_with_the_cure(world: World) -> None:
    world.plan = replace(world.plan, metric=replace(world.plan.metric, plausible=(0.0, 0.5)))
    world.settle()
    early = world.propose()
    assert world.run(ExperimentId("e0"), scored(1.0)) is Status.SUSPECT
    assert world.state.is_failed
    assert "plausible = [0, 0.5]" in world.state.finished
    assert "incumbent accept e0" in world.state.finished
    world.restart()
    assert accept(world, ExperimentId("e0")) is Status.KEPT
    assert world.status(early) is Status.QUEUED


def test_whatever_the_baseline_does_to_its_files_is_a_habit(world: World) -> None:
    world.settle()
    assert world.run(ExperimentId("e0"), gamed(1.0)) is Status.KEPT
    assert world.run(world.propose(), gamed(0.5)) is Status.KEPT
