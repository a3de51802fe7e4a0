"""What seeds share is found where it is there, and not where it is not."""

import math
from random import Random
from statistics import fmean

import numpy as np
import pytest

from eval.score import Score
from eval.seed_effects import MOST_SEEDS, SHARES, SeedEffects, seed_effects

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
def test_where_they_share_much_it_is_seen_with_what_each_brings(share: float, least: float) -> None:
    missed, sigmas = [], []
    for number in range(100):
        seeds, trees = drawn(number, share)
        effects = seed_effects(trees, first=1)
        if effects:
            sigmas.append(effects.sigma)
            missed.append(effects.means[2] - effects.means[1] - seeds[2] + seeds[1])
    assert len(missed) >= 100 * least
    rest = math.sqrt(1 - share)
    assert fmean(sigmas) == pytest.approx(rest, rel=0.1)
    assert math.sqrt(fmean(error**2 for error in missed)) < 0.5 * rest


def test_predictions_are_those_of_the_whole_model() -> None:
    """Against the textbook's formulas, with all matrices written out."""
    _, trees = drawn(3, 0.8)
    effects = seed_effects(trees, first=1)
    assert effects is not None
    runs = [(t, seed, value) for t, tree in enumerate(trees) for seed, value in tree]
    x = np.array([[float(t == row[0]) for t in range(len(trees))] for row in runs])
    z = np.array([[float(seed == row[1]) for seed in (1, 2, 3)] for row in runs])
    y = np.array([row[2] for row in runs])
    of_seed = effects.sigma**2 * effects.share / (1 - effects.share)
    inverse = np.linalg.inv(of_seed * z @ z.T + effects.sigma**2 * np.eye(len(runs)))
    swept = inverse - inverse @ x @ np.linalg.inv(x.T @ inverse @ x) @ x.T @ inverse
    means = of_seed * z.T @ swept @ y
    errors = of_seed * np.eye(3) - of_seed * z.T @ swept @ z * of_seed
    assert [effects.means[seed] for seed in (1, 2, 3)] == pytest.approx(list(means))
    for i, a in enumerate((1, 2, 3)):
        assert [effects.errors[a, b] for b in (1, 2, 3)] == pytest.approx(list(errors[i]))
    dof = len(runs) - len(trees)
    assert float(y @ swept @ y) == pytest.approx(dof)


def test_a_run_on_the_first_seed_is_taken_as_it_is_and_others_as_if_on_it() -> None:
    effects = found(3, 0.8)
    assert effects is not None
    alone = effects.measured(scored((1, 7.0)))
    assert (alone.mean, alone.runs) == (pytest.approx(7.0), pytest.approx(1.0))
    off = effects.means[2] - effects.means[1]
    other = effects.measured(scored((2, 7.0 + off)))
    assert other.mean == pytest.approx(7.0)
    assert 0.5 < other.runs < 1  # what the second seed brings is not known exactly
    unknown = effects.measured(scored((99, 7.0)))
    assert unknown.runs < 0.5
    both = effects.measured(scored((1, 7.0), (99, 70.0)))
    assert 1 < both.runs < 1.5
    assert 7 < both.mean < 70 / 2  # weighed by what each can tell


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
    assert other.means[2] == pytest.approx(factor * one.means[2])


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
    effects = seed_effects(trees, first=1)
    assert effects is not None
    assert sorted(effects.means) == list(range(1, MOST_SEEDS + 1))
