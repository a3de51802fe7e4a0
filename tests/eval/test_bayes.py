"""The Bayesian judge: what it keeps, what it learns, and that units do not matter."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.bayes import MOST_CONCEDED, BayesJudge
from eval.beliefs import Belief, Memory, PatchCounts
from eval.judge import Evidence, Judgement, Verdict
from eval.noise import Noise
from eval.patch_prior import PatchPrior
from eval.score import Score
from eval.seed_effects import SeedEffects
from tests.eval.judging import ACCURACY, LOSS, around, tree

JUDGE = BayesJudge(metric=LOSS)
BASE = tree(100.0, 100.5, 99.5)


def test_the_baseline_is_measured_three_times() -> None:
    assert JUDGE.begin(tree(1.0), around()).verdict is Verdict.REPLICATE
    assert JUDGE.begin(tree(1.0, 1.2), around()).verdict is Verdict.REPLICATE
    begun = JUDGE.begin(tree(1.0, 1.2, 1.1), around(0.3))
    assert begun.verdict is Verdict.KEEP
    assert begun.learnt.candidate == Belief(mean=pytest.approx(1.1), variance=pytest.approx(0.03))


def test_what_is_far_better_is_kept_and_what_is_far_worse_is_not_after_one_run() -> None:
    assert JUDGE.judge(tree(80.0), BASE, around()).verdict is Verdict.KEEP
    assert JUDGE.judge(tree(110.0), BASE, around()).verdict is Verdict.DISCARD


def test_what_may_be_luck_is_run_again_but_not_for_ever() -> None:
    assert JUDGE.judge(tree(98.6), BASE, around()).verdict is Verdict.REPLICATE
    assert JUDGE.judge(tree(*[98.6] * 6), BASE, around()).verdict is not Verdict.REPLICATE


def test_a_higher_price_keeps_less() -> None:
    def keeps(price: float) -> int:
        judge = BayesJudge(metric=LOSS, price=price, max_replicates=1)
        values = [100 - 0.1 * step for step in range(50)]
        return sum(judge.judge(tree(v), BASE, around()).verdict is Verdict.KEEP for v in values)

    assert keeps(0.0) > keeps(1.0) > keeps(3.0) > 0


def test_without_a_price_few_slots_pay_less() -> None:
    automatic, cheap, dear = (BayesJudge(metric=LOSS, price=p) for p in (None, 0.3, 1.0))
    for value in (97.0, 98.0, 98.5, 99.0, 99.5):
        for slots, same in ((7, cheap), (8, dear)):
            case = tree(value), BASE, around(slots=slots)
            assert automatic.judge(*case) == same.judge(*case)


def test_before_the_noise_is_known_every_candidate_is_run_twice() -> None:
    unknown = replace(around(), noise=Noise())
    assert JUDGE.judge(tree(80.0), tree(100.0), unknown).verdict is Verdict.REPLICATE
    known = around(0.0, dof=1, slots=2)
    assert JUDGE.judge(tree(80.0, 80.0), tree(100.0), known).verdict is Verdict.KEEP


def test_while_the_noise_rests_on_little_many_slots_repeat_what_they_would_discard() -> None:
    for slots, dof, verdict in (
        (8, 2, Verdict.REPLICATE), (8, 8, Verdict.DISCARD), (7, 2, Verdict.DISCARD),
    ):  # fmt: skip
        case = BASE, around(slots=slots, dof=dof)
        assert JUDGE.judge(tree(120.0), *case).verdict is verdict
        assert JUDGE.judge(tree(120.0, 120.0), *case).verdict is Verdict.DISCARD
        assert JUDGE.judge(tree(80.0), *case).verdict is Verdict.KEEP  # no promotion waits


def test_few_runs_that_repeat_exactly_may_do_so_by_chance() -> None:
    """As those of an accuracy of three digits do."""
    case = tree(0.9, 0.9, 0.9), around(0.0, dof=2, slots=2)
    assert JUDGE.judge(tree(0.901), *case).verdict is Verdict.DISCARD
    assert JUDGE.judge(tree(0.899), *case).verdict is Verdict.REPLICATE
    assert JUDGE.judge(tree(0.899, 0.899), *case).verdict is Verdict.KEEP


@given(st.floats(-50, 50), st.booleans())
def test_runs_that_repeat_exactly_are_judged_as_greedy_does(gain: float, huge: bool) -> None:
    if abs(gain) < 1e-6:
        gain = 0.0
    scale = 1e90 if huge else 1.0
    verdict = JUDGE.judge(
        tree((100 - gain) * scale), tree(*[100.0 * scale] * 3), around(0.0, dof=8, slots=2)
    ).verdict
    assert verdict is (Verdict.KEEP if gain > 0 else Verdict.DISCARD)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_do_not_matter(factor: float) -> None:
    for value in (95.0, 98.0, 98.7, 99.0, 100.0, 103.0):
        one = JUDGE.judge(tree(value), BASE, around())
        base = tree(*(factor * v for v in BASE.score.values))
        other = JUDGE.judge(tree(factor * value), base, around(factor))
        assert other.verdict is one.verdict
        assert other.delta == pytest.approx(factor * one.delta, rel=1e-9)


def test_the_direction_does_not_matter() -> None:
    judge = BayesJudge(metric=ACCURACY)
    for value in (95.0, 98.0, 98.7, 99.0, 100.0, 103.0):
        one = JUDGE.judge(tree(value), BASE, around())
        other = judge.judge(tree(-value), tree(*(-v for v in BASE.score.values)), around())
        assert other.verdict is one.verdict
        if one.learnt:
            assert other.learnt.candidate.mean == pytest.approx(-one.learnt.candidate.mean)
            assert other.learnt.reference.mean == pytest.approx(-one.learnt.reference.mean)


def test_beliefs_are_what_brute_force_says() -> None:
    """Base, patch and run drawn from the prior; those with about this result are averaged."""
    random, prior = Random(7), PatchPrior(seen=PatchCounts(), unit=1.0)
    base = tree(100.0, belief=Belief(mean=100.0, variance=0.8))
    observed, width = 98.0, 0.2
    found = []
    for _ in range(250_000):
        truth = random.gauss(100.0, math.sqrt(0.8))
        kind = random.choices(range(4), prior.weights)[0]
        size = [1, 0, -1, -1][kind] * random.expovariate(1)
        effect = size * (prior.sizes[0], 0, prior.sizes[1], prior.sizes[2])[kind]
        if abs(truth - effect + random.gauss(0, 1) - observed) < width:
            found.append((truth, truth - effect, effect))
    learnt = BayesJudge(metric=LOSS, max_replicates=1).judge(tree(observed), base, around()).learnt
    for index, belief in enumerate((learnt.reference, learnt.candidate, learnt.effect)):
        values = [row[index] for row in found]
        mean = math.fsum(values) / len(values)
        assert belief.mean == pytest.approx(mean, abs=0.06)
        assert belief.variance == pytest.approx(
            math.fsum((v - mean) ** 2 for v in values) / len(values), rel=0.1
        )


def test_what_a_seed_brings_is_not_taken_for_what_a_patch_does() -> None:
    """With the second seed, anything scores worse by three."""
    seeds = SeedEffects(share=0.9, sigma=0.3, first=1)

    def on(runs: dict[int, float]) -> Evidence:
        score = Score(values=tuple(runs.values()), seeds=tuple(runs), device_class="gpu")
        return Evidence(score=score, lines=100)

    def compared(runs: dict[int, float], known: SeedEffects | None) -> Judgement:
        base = on({1: 100.0, 2: 103.0})
        return JUDGE.judge(on(runs), base, replace(around(), seeds=known))

    for worse in ({1: 101.4}, {1: 101.4, 2: 104.4}):
        assert compared(worse, seeds).verdict is Verdict.DISCARD
        assert compared(worse, seeds).delta == pytest.approx(-1.4, abs=0.3)
    better = {1: 98.6}
    assert compared(better, seeds).verdict is Verdict.KEEP
    assert compared(better, seeds).delta == pytest.approx(1.4, abs=0.3)
    assert abs(compared({1: 101.4}, None).delta) < 0.5  # else it is taken for no worse
    begun = JUDGE.begin(on({1: 100.0, 2: 103.0, 3: 90.0}), replace(around(), seeds=seeds))
    assert begun.learnt.candidate.mean > 99  # what other seeds say is luck, for the most part


def test_a_merge_is_judged_by_what_its_patch_did_before() -> None:
    known = Belief(mean=3.0, variance=0.2)
    hopeful = JUDGE.judge(tree(99.0, expected=known), BASE, around())
    unknown = JUDGE.judge(tree(99.0), BASE, around())
    assert hopeful.verdict is Verdict.KEEP
    assert unknown.verdict is not Verdict.KEEP
    assert hopeful.learnt.memory == Memory()  # its patch was counted before


def test_shorter_and_no_worse_is_kept_until_small_losses_have_added_up() -> None:
    plain = BayesJudge(metric=LOSS, max_replicates=1, simplicity=False)
    simple = replace(plain, simplicity=True)
    sure = Memory(patches=PatchCounts(counts=(1.0, 500.0, 1.0, 1.0)))
    case = tree(100.1, lines=90), BASE, around(memory=sure)
    assert plain.judge(*case).verdict is Verdict.DISCARD
    memory, kept = sure, 0
    while kept < 1000:
        judged = simple.judge(case[0], BASE, around(memory=replace(memory, patches=sure.patches)))
        if judged.verdict is not Verdict.KEEP:
            break
        memory, kept = judged.learnt.memory, kept + 1
    assert 0 < kept < 1000
    assert memory.conceded <= MOST_CONCEDED
    assert simple.judge(tree(100.1), BASE, around(memory=sure)).verdict is Verdict.DISCARD
