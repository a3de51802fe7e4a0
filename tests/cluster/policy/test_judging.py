"""What verdicts teach is kept in the ledger, and nothing else is needed to go on."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.ledger.codec import decode_event, decode_state, encode_draft, encode_state
from cluster.policy import commands as cmd
from cluster.policy.verdicts import noise
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.trial_accounts import MOST_REPLICATED
from eval.bayes import BayesJudge
from eval.beliefs import Memory
from eval.judge import Verdict
from eval.seeds import SeedHabit
from tests.cluster.world import CRASHED, METRIC, World, scored
from trainer.trial import ExperimentId

E0 = ExperimentId("e0")
RUNS = (1.0, 1.002, 0.998)


@pytest.fixture
def world() -> Iterator[World]:
    """A study under a judge that learns; its state is verified after the test."""
    made = World(slots=3, judge=BayesJudge(metric=METRIC))
    yield made
    made.verify()


def begin(world: World) -> None:
    for value in RUNS:
        world.run(E0, scored(value))
    assert world.status("e0") is Status.KEPT


def test_candidates_run_beside_the_baselines_replicates_and_are_judged_after_them(
    world: World,
) -> None:
    world.settle()
    early = world.propose()
    world.settle()
    assert world.status(early) is Status.PROPOSED  # nothing is known of the baseline yet
    world.run(E0, scored(RUNS[0]))
    assert world.status("e0") is Status.QUEUED
    world.run(early, scored(0.5))
    assert world.status(early) is Status.MEASURED
    world.run(E0, scored(RUNS[1]))
    world.run(E0, scored(RUNS[2]))
    assert world.state.lineage == ("e0", early)


def test_submissions_become_candidates_while_the_baseline_is_repeated(world: World) -> None:
    world.settle()
    world.run(E0, scored(RUNS[0]))
    assert not world.state.lineage
    received = ev.SubmissionReceived(submission="s-1", hypothesis="LR 1 -> 2")
    world.happen("s-1", received)
    assert cmd.Materialise(submission=received) in world.decide()


def test_a_baseline_that_crashes_when_it_is_repeated_ends_the_study(world: World) -> None:
    world.settle()
    early = world.propose()
    world.run(E0, scored(1.0))
    world.run(early, scored(0.5))
    world.run(E0, CRASHED)
    assert world.state.is_failed
    assert world.status(early) is Status.MEASURED


def test_a_verdict_teaches_what_both_trees_score_and_what_patches_are_like(world: World) -> None:
    begin(world)
    before = world.state.experiments[E0].belief
    worse = world.propose()
    assert world.run(worse, scored(1.002)) is Status.DISCARDED
    found = world.state.experiments[worse]
    assert found.effect.mean < -(found.effect.variance**0.5) / 2
    assert found.chance < 0.05
    assert found.belief.mean > before.mean
    after = world.state.experiments[E0].belief
    assert after.variance < before.variance
    counts = world.state.memory.patches.counts
    assert sum(counts) == pytest.approx(1)
    assert counts[0] == found.chance


def test_what_is_judged_again_teaches_of_its_base_and_of_patches_no_second_time(
    world: World,
) -> None:
    begin(world)
    first = world.propose()
    assert world.run(first, scored(1.02)) is Status.DISCARDED
    alone = world.state.memory.patches
    between = world.propose()
    assert world.run(between, scored(1.03)) is Status.DISCARDED
    base, patches = world.state.experiments[E0].belief, world.state.memory.patches
    assert patches != alone
    before = world.state.experiments[first]
    world.happen("again", ev.RetryRequested(experiment=first))
    assert world.run(first, scored(1.03)) is Status.DISCARDED
    assert world.state.experiments[E0].belief == base
    assert world.state.memory.patches == patches
    after = world.state.experiments[first]
    assert after.effect.mean < before.effect.mean
    assert after.belief.mean > before.belief.mean
    # What was not judged before, though it was run, teaches when it is.
    crashed = world.propose()
    world.run(crashed, CRASHED)
    world.happen("crashed/again", ev.RetryRequested(experiment=crashed))
    assert world.run(crashed, scored(1.02)) is Status.DISCARDED
    assert world.state.memory.patches != patches
    assert world.state.experiments[E0].belief != base


def test_verdicts_of_one_moment_build_on_each_other(world: World) -> None:
    begin(world)
    pair = [world.propose(), world.propose()]
    world.settle()
    for experiment in pair:
        world.start(experiment)
        world.end(experiment, scored(1.02))
    assert len(world.decide()) == 1
    world.settle()
    learnt = sum(world.state.memory.patches.counts)
    assert learnt == pytest.approx(1 + 0.985)


def test_a_candidate_that_may_be_luck_is_run_again_and_tells_of_noise(world: World) -> None:
    begin(world)
    before = noise(world.state, "cpu")
    maybe = world.propose()
    assert world.run(maybe, scored(0.9975)) is Status.QUEUED
    assert world.state.experiments[maybe].verdict is Verdict.REPLICATE
    world.run(maybe, scored(1.001))
    assert world.state.replicated == ("e0", maybe)
    assert noise(world.state, "cpu").dof == before.dof + 1
    # Until a class tells of its own noise, it is taken to be as on the one that promotes.
    assert noise(world.state, "another card") == noise(world.state, "cpu")


def test_what_is_run_again_goes_before_candidates_that_wait(world: World) -> None:
    begin(world)
    maybe, other = world.propose(), world.propose()
    world.run(maybe, scored(0.9975))
    world.settle()
    first, again, waits = (f"{maybe}.1", f"{maybe}.2", f"{other}.1")
    assert world.priorities[again] > world.priorities[waits] == world.priorities[first]
    assert world.priorities["e0.1"] > world.priorities[again]


def test_a_replicate_that_crashes_is_a_crash(world: World) -> None:
    begin(world)
    maybe = world.propose()
    world.run(maybe, scored(0.9975))
    assert world.run(maybe, CRASHED) is Status.CRASHED
    assert world.state.lineage == ("e0",)


def test_a_merge_is_expected_to_bring_what_its_patch_brought(world: World) -> None:
    begin(world)
    a, b = world.propose(), world.propose()
    world.settle()
    for experiment, value in ((a, 0.90), (b, 0.95)):
        world.start(experiment)
        world.end(experiment, scored(value))
    world.settle()
    merge = world.state.experiments[b].merged_as
    counted = world.state.memory
    assert world.run(merge, scored(0.86)) is Status.KEPT
    assert world.state.memory == counted  # its patch is known, and counts once
    effect = world.state.experiments[b].effect
    assert world.state.experiments[merge].effect.mean == pytest.approx(0.9 * effect.mean, abs=0.01)


def test_only_the_latest_replicates_tell_of_noise(world: World) -> None:
    begin(world)
    for _ in range(MOST_REPLICATED + 3):
        lucky = world.propose()
        while world.run(lucky, scored(0.9969)) is Status.QUEUED:
            pass
    assert len(world.state.replicated) <= MOST_REPLICATED


def test_a_ledger_from_before_judges_learnt_is_read_as_it_was(world: World) -> None:
    begin(world)
    event = ev.ExperimentJudged(
        experiment=E0, verdict=Verdict.KEEP, delta=0.0, reason="baseline", reference=E0
    )
    payload = json.loads(encode_draft(ev.Draft(id="x", at=world.now, event=event)))
    del payload["body"]["learnt"]
    assert decode_event(1, json.dumps(payload).encode()).event == event
    stored = json.loads(encode_state(world.state))
    for name in ("memory", "replicated"):
        del stored["state"][name]
    for experiment in stored["state"]["experiments"].values():
        for name in ("belief", "effect", "chance", "level"):
            del experiment[name]
    old = decode_state(json.dumps(stored).encode())
    assert old.memory == Memory()
    assert old.experiments[E0].belief is None


def test_a_study_that_began_greedily_goes_on_under_another_judge(world: World) -> None:
    world.plan = World().plan
    world.baseline(1.0)
    world.run(world.propose(), scored(0.9))
    world.plan = World(judge=BayesJudge(metric=METRIC)).plan
    first = world.propose()
    assert world.run(first, scored(0.8)) is Status.QUEUED  # nobody knows the noise yet
    assert world.run(first, scored(0.801)) is Status.KEPT
    assert world.state.incumbent.belief is not None


@pytest.mark.parametrize(("habit", "is_told"), [(SeedHabit.FIXED, True), (SeedHabit.FREE, False)])
def test_a_verdict_on_repeats_of_one_seed_says_so(
    world: World, habit: SeedHabit, is_told: bool
) -> None:
    world.plan = replace(world.plan, seeds=habit)
    begin(world)
    once = world.propose()
    world.run(once, scored(1.5))
    again = world.propose()
    for value in (0.9975, 1.5):
        world.run(again, scored(value))
    words = "share one seed"
    assert (words in world.state.experiments[again].reason) is is_told
    assert words not in world.state.experiments[once].reason
