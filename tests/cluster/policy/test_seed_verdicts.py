"""Candidates that change the seed, and runs that share one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.policy.seed_verdicts import effects
from cluster.policy.trial_planning import OTHER_SEEDS
from cluster.state import events as ev
from cluster.state.experiment import Status
from eval.bayes import BayesJudge
from eval.judge import Judge
from eval.seeds import Reseed, SeedHabit
from eval.sequential import SequentialJudge
from tests.cluster.world import CRASHED, GREEDY, METRIC, World, scored
from trainer.trial import ExperimentId, TrialOutcome

E0 = ExperimentId("e0")
ONE_SEED = "its runs share one seed and tell of repeatability alone"
JUDGES = [GREEDY, BayesJudge(metric=METRIC), SequentialJudge(metric=METRIC)]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.verify()


def begin(world: World, judge: Judge) -> None:
    world.plan = replace(world.plan, judge=judge)
    for value in (1.0, 1.002, 0.998):
        world.settle()
        if not world.state.lineage:
            world.run(E0, scored(value))


def reseeded(value: float) -> TrialOutcome:
    written = Reseed(path="train.py", line=3, old="42", new="2")
    return replace(scored(value), reseeds=(written,))


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: type(judge).__name__)
@pytest.mark.parametrize("habit", [SeedHabit.TAKEN, SeedHabit.WRITTEN, SeedHabit.FREE])
def test_a_lucky_seed_is_not_kept_where_another_can_be_set(
    world: World, habit: SeedHabit, judge: Judge
) -> None:
    begin(world, judge)
    lucky = world.propose(seeds=habit)
    assert world.run(lucky, scored(0.5)) is Status.QUEUED
    while world.status(lucky) is Status.QUEUED:
        world.run(lucky, reseeded(1.05))
    assert world.status(lucky) is Status.DISCARDED
    found = world.state.experiments[lucky]
    assert 0.5 not in found.values
    assert found.values == (1.05,) * len(found.values)
    assert ONE_SEED not in found.reason


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: type(judge).__name__)
def test_what_is_better_on_other_seeds_too_is_kept_by_what_it_scored_there(
    world: World, judge: Judge
) -> None:
    begin(world, judge)
    good = world.propose(seeds=SeedHabit.TAKEN)
    world.run(good, scored(0.5))
    while world.status(good) is Status.QUEUED:
        world.run(good, scored(0.7))
    assert world.status(good) is Status.KEPT
    found = world.state.experiments[good]
    assert found.score is not None
    assert found.score.mean == 0.7
    seeds = [trial.seed for trial in found.trials]
    assert seeds[0] == 1
    assert all(seed == OTHER_SEEDS + n for n, seed in enumerate(seeds[1:], start=2))
    assert not {trial.seed for trial in world.state.experiments[E0].trials} & set(seeds[1:])


def test_a_worse_one_is_discarded_by_one_run(world: World) -> None:
    begin(world, GREEDY)
    for habit in SeedHabit:
        assert world.run(world.propose(seeds=habit), scored(1.5)) is Status.DISCARDED


def test_where_no_other_seed_can_be_set_somebody_has_to_look(world: World) -> None:
    begin(world, GREEDY)
    lucky = world.propose(seeds=SeedHabit.FIXED)
    assert world.run(lucky, scored(0.5)) is Status.SUSPECT
    words = "it changes the seed, and nothing can set another one for it"
    assert world.state.experiments[lucky].reason == words
    world.happen("accept", ev.AcceptRequested(experiment=lucky))
    world.settle()
    assert world.status(lucky) is Status.KEPT


def test_a_seed_that_could_not_be_written_after_all_is_suspect_too(world: World) -> None:
    begin(world, GREEDY)
    lucky = world.propose(seeds=SeedHabit.WRITTEN)
    world.run(lucky, scored(0.5))
    assert world.run(lucky, scored(0.5)) is Status.SUSPECT


def test_a_candidate_that_fails_on_another_seed_is_not_kept(world: World) -> None:
    begin(world, GREEDY)
    lucky = world.propose(seeds=SeedHabit.TAKEN)
    world.run(lucky, scored(0.5))
    assert world.run(lucky, CRASHED) is Status.CRASHED


def test_a_patch_that_changes_the_seed_is_merged_by_itself(world: World) -> None:
    begin(world, BayesJudge(metric=METRIC))
    first, lucky, third = world.propose(), world.propose(seeds=SeedHabit.TAKEN), world.propose()
    world.settle()
    for experiment, value in ((third, 0.9), (lucky, 0.8), (lucky, 0.8), (first, 0.7)):
        world.settle()
        world.start(experiment)
        if experiment != first:
            world.end(experiment, scored(value))
    world.end(first, scored(0.7))
    world.settle()
    merges = {e.merge_of: e for e in world.state.experiments.values() if e.merge_of}
    assert not merges[lucky].chain


def test_the_first_run_of_a_tree_is_as_it_is_and_further_ones_repeat_it(world: World) -> None:
    begin(world, BayesJudge(metric=METRIC))
    maybe = world.propose()
    world.run(maybe, scored(0.9975))
    assert [world.repeats[t.id] for t in world.state.experiments[E0].trials] == [False, True, True]
    assert [world.repeats[t.id] for t in world.state.experiments[maybe].trials] == [False, True]


def test_a_run_that_crashed_is_not_repeated_but_done(world: World) -> None:
    begin(world, GREEDY)
    broken = world.propose()
    world.run(broken, CRASHED)
    world.happen("retry", ev.RetryRequested(experiment=broken))
    world.settle()
    assert [world.repeats[t.id] for t in world.state.experiments[broken].trials] == [False, False]


@pytest.mark.parametrize(("outcome", "is_told"), [(scored, True), (reseeded, False)])
def test_repeats_share_a_seed_unless_one_was_written(
    world: World, outcome: type, is_told: bool
) -> None:
    world.plan = replace(world.plan, seeds=SeedHabit.WRITTEN)
    begin(world, BayesJudge(metric=METRIC))
    maybe = world.propose()
    world.run(maybe, scored(0.9975))
    while world.status(maybe) is Status.QUEUED:
        world.run(maybe, outcome(1.5))
    assert (ONE_SEED in world.state.experiments[maybe].reason) is is_told


@pytest.mark.parametrize("habit", SeedHabit)
def test_what_seeds_bring_is_learnt_where_the_script_takes_them(habit: SeedHabit) -> None:
    """With eight slots, what would be discarded is run twice while noise is hardly known."""
    world = World(slots=8)
    world.plan = replace(world.plan, seeds=habit)
    begin(world, BayesJudge(metric=METRIC, max_replicates=2))
    for number in range(6):
        candidate = world.propose()
        assert world.run(candidate, scored(1.1 + number)) is Status.QUEUED
        assert world.run(candidate, scored(1.15 + number)) is Status.DISCARDED
    kind = world.state.experiments[E0].device_class
    found = effects(world.state, world.plan, kind, [])
    if habit is not SeedHabit.TAKEN:
        assert found is None
        return
    assert found is not None
    assert found.share > 0.5
    assert effects(world.state, world.plan, "another class", []) is None
    changed = replace(world.state.experiments[E0], seeds=SeedHabit.TAKEN)
    assert effects(world.state, world.plan, kind, [changed]) is None
