"""What seeds share is found where it is there, and not where it is not."""

import math
from random import Random
from statistics import fmean

import numpy as np
import pytest

from eval.score import Score
from eval.seed_effects import MOST_SEEDS, SHARES, Measured, SeedEffects, seed_effects

Trees = list[list[tuple[int, float]]]


def drawn(number: int, share: float, trees: int = 16) -> tuple[dict[int, float], Trees]:
    """Draw seeds, and trees of which each has runs on two or three of them; a variance of 1."""
    random = Random(f"{number}/{share}")
    seeds = {seed: random.gauss(0, math.sqrt(share)) for seed in (1, 2, 3)}
    found: Trees = []
    for tree in range(trees):
        level = random.gauss(0, 10)
        runs = (1, 2, 3) if tree % 4 == 0 else (1, 2)
        rest = math.sqrt(1 - share)
        found.append([(s, level + seeds[s] + random.gauss(0, rest)) for s in runs])
    return seeds, found


def found(number: int, share: float, trees: int = 16) -> SeedEffects | None:
    return seed_effects(drawn(number, share, trees)[1], first=1)


def scored(*runs: tuple[int, float]) -> Score:
    seeds, values = zip(*runs, strict=True)
    return Score(values=values, seeds=seeds, device_class="gpu")


def test_few_repeats_tell_nothing_whatever_they_are() -> None:
    for number in range(20):
        assert found(number, 0.9, trees=3) is None


def test_where_seeds_share_nothing_hardly_anything_is_seen() -> None:
    shares = [effects.share if (effects := found(n, 0.0)) else 0.0 for n in range(100)]
    assert sum(share > 0 for share in shares) <= 15
    assert fmean(shares) < 0.05


@pytest.mark.parametrize(("share", "least"), [(0.6, 0.7), (0.9, 0.9)])
def test_where_they_share_much_it_is_seen_with_the_noise_that_is_left(
    share: float, least: float
) -> None:
    found = [effects for n in range(100) if (effects := seed_effects(drawn(n, share)[1], first=1))]
    assert len(found) >= 100 * least
    assert fmean(each.sigma for each in found) == pytest.approx(math.sqrt(1 - share), rel=0.1)


def test_what_is_left_is_that_of_the_whole_model() -> None:
    """Against the textbook's formulas, with all matrices written out."""
    trees = drawn(3, 0.8)[1]
    effects = seed_effects(trees, first=1)
    assert effects is not None
    runs = [(t, seed, value) for t, tree in enumerate(trees) for seed, value in tree]
    x = np.array([[float(t == row[0]) for t in range(len(trees))] for row in runs])
    z = np.array([[float(seed == row[1]) for seed in (1, 2, 3)] for row in runs])
    y = np.array([row[2] for row in runs])
    of_seed = effects.sigma**2 * effects.share / (1 - effects.share)
    inverse = np.linalg.inv(of_seed * z @ z.T + effects.sigma**2 * np.eye(len(runs)))
    swept = inverse - inverse @ x @ np.linalg.inv(x.T @ inverse @ x) @ x.T @ inverse
    dof = len(runs) - len(trees)
    assert float(y @ swept @ y) == pytest.approx(dof)


def test_a_run_on_another_seed_than_the_first_says_less() -> None:
    effects = SeedEffects(share=0.8, sigma=1.0, first=1)
    assert effects.measured(scored((1, 7.0))) == Measured(mean=7.0, runs=1.0)
    other = effects.measured(scored((2, 7.0)))
    assert other == Measured(mean=7.0, runs=pytest.approx(1 / (1 + 2 * 4)))  # both seeds vary
    both = effects.measured(scored((1, 7.0), (2, 16.0)))
    assert both.runs == pytest.approx(1 + 1 / 9)
    assert both.mean == pytest.approx((7 + 16 / 9) / (1 + 1 / 9))
    twice = effects.measured(scored((2, 7.0), (2, 7.0)))
    assert twice.runs == pytest.approx(1 / (0.5 + 2 * 4)), "what the seed brings is the same"
    two = effects.measured(scored((2, 7.0), (3, 7.0)))
    assert two.runs == pytest.approx(1 / (0.5 + 1.5 * 4)), "and what the first brings, for all"


def test_trees_that_are_run_again_for_their_first_luck_are_not_said_again_to_be_lucky() -> None:
    """As a judge has them: half of the first runs, the better ones, where seeds share nothing."""
    random = Random(5)
    first = sorted((random.gauss(0, 1) for _ in range(60)), reverse=True)[:30]
    luck = fmean(first)
    trees = [[(1, value), (2, random.gauss(0, 1))] for value in first]
    effects = seed_effects(trees, first=1)
    assert effects is None or effects.measured(scored((2, 0.0))).mean < 0.1 * luck


@pytest.mark.parametrize("factor", [1e-9, -1.0, 1e9])
def test_units_and_directions_do_not_matter(factor: float) -> None:
    _, trees = drawn(3, 0.8)
    one = seed_effects(trees, first=1)
    turned = [[(seed, factor * value) for seed, value in tree] for tree in trees]
    other = seed_effects(turned, first=1)
    assert one is not None
    assert other is not None
    assert other.share == one.share
    assert other.sigma == pytest.approx(abs(factor) * one.sigma)


def test_one_tree_that_differs_far_more_than_all_others_does_not_count() -> None:
    _, trees = drawn(3, 0.8)
    assert seed_effects([*trees, [(1, 0.0), (2, 1000.0)]], first=1) == seed_effects(trees, first=1)


def test_runs_that_repeat_exactly_and_seeds_that_no_two_trees_had_tell_nothing() -> None:
    assert seed_effects([[(1, float(t)), (2, float(t))] for t in range(20)], first=1) is None
    apart = [[(2 * t, 1.0 + 0.1 * t), (2 * t + 1, 2.0)] for t in range(20)]
    assert seed_effects(apart, first=1) is None
    alike = seed_effects([[(1, float(t)), (2, t + 1.0)] for t in range(20)], first=1)
    assert alike is not None
    assert alike.share == SHARES[-1]


def test_however_many_seeds_there_are_the_commonest_are_looked_at() -> None:
    random = Random(1)
    level = {seed: random.gauss(0, 1) for seed in range(1, 31)}
    trees = [
        [(seed, level[seed] + random.gauss(0, 0.1)) for seed in range(1, 3 + t)] for t in range(28)
    ]
    few = [[run for run in tree if run[0] <= MOST_SEEDS] for tree in trees]
    effects = seed_effects(trees, first=1)
    assert effects is not None
    assert effects == seed_effects(few, first=1)
