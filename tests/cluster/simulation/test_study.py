"""Simulated studies are real ones on paper: their states are sound, and they can be repeated."""

from dataclasses import replace
from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from cluster.simulation.course import Course, play
from cluster.simulation.landscape import load_landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC, SimulatedStudy
from cluster.state.experiment import Status
from cluster.state.invariants import check
from eval.bayes import BayesJudge
from eval.judge import GreedyJudge, Judge
from eval.ladder import Step
from eval.sequential import SequentialJudge

GREEDY = GreedyJudge(metric=METRIC)
BAYES = BayesJudge(metric=METRIC)
SEQUENTIAL = SequentialJudge(metric=METRIC)


def setup(name: str = "published", judge: Judge = GREEDY, **changes: float) -> Setup:
    noise = changes.pop("noise", None)
    landscape = load_landscape(name)
    if noise is not None:
        landscape = landscape.changed(runs__noise=noise)
    made = Setup(landscape=landscape, judge=judge, slots=8, hours=2.0, seed=1)
    return replace(made, **changes)


def courses(number: int, *args, **changes) -> list[Course]:
    return [play(setup(*args, **changes, seed=seed)) for seed in range(number)]


@pytest.mark.parametrize("judge", [GREEDY, BAYES, SEQUENTIAL], ids=lambda j: type(j).__name__)
@pytest.mark.parametrize("name", ["published", "harsh"])
def test_every_state_is_sound_and_the_same_seed_is_the_same_study(name: str, judge: Judge) -> None:
    first = SimulatedStudy(setup(name, judge)).run()
    check(first)
    assert SimulatedStudy(setup(name, judge)).run() == first
    assert SimulatedStudy(setup(name, judge, seed=2)).run() != first


def test_slots_are_busy_while_the_proposer_keeps_up() -> None:
    state = SimulatedStudy(setup(hours=8.0)).run()
    assert state.counts[Status.RUNNING] == 8
    # What runs at the end is not counted yet, and the baseline was alone at first.
    assert state.slot_seconds > 0.97 * 8 * 8 * 3600 - 8 * 300


def test_a_slow_proposer_starves_the_slots() -> None:
    slow = load_landscape("published").changed(surroundings__latency_s=7200.0)
    state = SimulatedStudy(replace(setup(), landscape=slow, hours=4.0)).run()
    assert state.slot_seconds < 0.5 * 8 * 4 * 3600


def test_what_is_lost_is_run_again_on_slots_that_come_back() -> None:
    state = SimulatedStudy(setup("harsh", hours=8.0)).run()
    lost = [t for e in state.experiments.values() for t in e.trials if t.phase == "lost"]
    assert lost
    assert all(state.experiments[t.id.split(".")[0]].trials[-1].attempt > 1 for t in lost[:1])
    assert sum(slot.is_open for slot in state.slots.values()) >= 6


def test_without_noise_greedy_claims_exactly_what_is_true() -> None:
    course = play(setup(noise=0.0, hours=4.0))
    assert course.false_promotions == 0
    assert course.claimed == pytest.approx(course.true)
    assert all(new.true > old.true for old, new in pairwise(course.steps[:-1]))


def test_noise_makes_greedy_claim_what_is_not_there_and_bayes_not() -> None:
    greedy = courses(4, noise=0.001, hours=5.0)
    bayes = courses(4, "published", BAYES, noise=0.001, hours=5.0)
    gap_of_greedy = fmean(course.claimed - course.true for course in greedy)
    gap_of_bayes = fmean(course.claimed - course.true for course in bayes)
    assert gap_of_greedy > 0.0015
    assert abs(gap_of_bayes) < gap_of_greedy / 3
    assert fmean(c.false_promotions / c.promotions for c in bayes) < 0.8 * fmean(
        c.false_promotions / c.promotions for c in greedy
    )


def test_more_slots_find_more() -> None:
    one, eight = (fmean(c.true for c in courses(4, slots=n)) for n in (1, 8))
    assert eight > 1.3 * one


def test_time_on_slots_is_told_apart() -> None:
    course = play(setup("published", SEQUENTIAL, hours=4.0))
    assert course.time.replicates > 0.2 * course.time.total
    assert play(setup()).time.replicates == 0
    assert play(setup()).time.merges > 0


def test_what_waits_follows_the_incumbent_unless_that_is_switched_off() -> None:
    state = SimulatedStudy(setup(judge=BAYES)).run()
    rebased = [e for e in state.experiments.values() if e.rebased_from]
    assert len(rebased) > 5
    for experiment in rebased:  # before it began, and never again
        names = [name for _, name in experiment.story]
        assert "TrialStarted" not in names[: names.index("ExperimentRebased")]
    off = SimulatedStudy(setup(judge=BAYES, max_staleness=0)).run()
    assert not any(e.rebased_from for e in off.experiments.values())


def test_a_rebased_patch_acts_on_the_tree_that_it_lands_on() -> None:
    study = SimulatedStudy(setup("long_tail", BAYES))
    state = study.run()
    rebased = [e for e in state.experiments.values() if e.rebased_from]
    assert rebased
    for experiment in rebased:
        own = study.trees[experiment.id].patches.keys()
        assert len(own - study.trees[experiment.base].patches.keys()) == 1
        assert own > study.trees[experiment.base].patches.keys()


def test_on_rungs_more_are_tried_and_some_that_would_have_won_are_stopped() -> None:
    with_rungs = setup(judge=BAYES, rungs=(Step(budget_s=30.0, keep=0.33),))
    state = SimulatedStudy(with_rungs).run()
    check(state)
    trials = [t for e in state.experiments.values() for t in e.trials if t.outcome]
    on_rungs = [trial for trial in trials if trial.rung_s is not None]
    assert fmean(trial.seconds for trial in on_rungs) == pytest.approx(30.0, rel=0.05)
    assert state.counts[Status.PRUNED] > 0.4 * len(on_rungs)
    assert not any(trial.rung_s for e in state.experiments.values() for trial in e.controls)
    found, without = play(with_rungs), play(setup(judge=BAYES))
    assert found.experiments > 1.4 * without.experiments
    assert 0 < found.stopped <= found.passed_over
    assert without.stopped == 0


def test_a_run_on_a_rung_ends_before_what_crashes_later() -> None:
    late = load_landscape("harsh").changed(runs__crash_at=0.5)
    rungs = (Step(budget_s=100.0, keep=0.5),)
    study = SimulatedStudy(replace(setup(judge=BAYES, rungs=rungs), landscape=late))
    crashed = [e for e in study.run().experiments.values() if e.status is Status.CRASHED]
    assert crashed
    for experiment in crashed:
        assert [trial.rung_s for trial in experiment.trials if trial.outcome] == [100.0, None]


def test_what_a_run_shows_comes_nearer_to_its_score_as_it_goes_on() -> None:
    study = SimulatedStudy(setup())
    study.run()
    ground, trees = study.terrain, list(study.trees.values())

    def spread(part: float) -> float:
        return pstdev(ground.shown(tree, part) - ground.improvement(tree) for tree in trees)

    assert spread(1.0) == 0
    assert spread(0.5) == pytest.approx(0.001, rel=0.2)
    assert spread(0.1) == pytest.approx(0.003, rel=0.2)
    assert all(ground.shown(tree, 0.1) == ground.shown(tree, 0.1) for tree in trees)
