"""Trees are worth what their patches bring, in whichever order those came together."""

from itertools import pairwise, permutations

import pytest

from cluster.simulation.landscape import load_landscape
from cluster.simulation.terrain import Patch, Terrain, Tree

PUBLISHED = load_landscape("published")
BASE = Tree(patches={})


def patch(number: int, gain: float, *knows: int) -> Patch:
    return Patch(number=number, gain=gain, harm=0.0, crashes=False, knows=frozenset(knows))


def terrain(**changes: float) -> Terrain:
    named = {f"together__{name}": value for name, value in changes.items()}
    return Terrain(PUBLISHED.changed(**named), 1)


def test_gains_shrink_as_the_ceiling_comes_nearer() -> None:
    ground, tree = terrain(), BASE
    worth = [ground.improvement(BASE)]
    for number in range(1, 30):
        tree = ground.merge(tree, [patch(number, 0.005, *range(number))])
        worth.append(ground.improvement(tree))
    steps = [new - old for old, new in pairwise(worth)]
    assert worth[0] == 0
    assert steps == sorted(steps, reverse=True)
    assert 0.9 * PUBLISHED.gains.ceiling < worth[-1] < PUBLISHED.gains.ceiling


def test_the_order_of_merges_does_not_matter() -> None:
    ground = terrain(conflicting=0.0, clashing=0.5)
    found = {
        round(ground.improvement(ground.merge(BASE, order)), 12)
        for order in permutations([patch(n, 0.001 * n) for n in range(1, 6)])
    }
    assert len(found) == 1


def test_two_patches_with_one_idea_bring_what_the_better_one_does() -> None:
    ground = terrain(conflicting=0.0, clashing=1.0, cost=1.0)
    both = ground.merge(BASE, [patch(1, 0.001), patch(2, 0.003)])
    assert both.gain == pytest.approx(0.003)
    knowing = ground.merge(BASE, [patch(1, 0.001), patch(2, 0.003, 1)])
    assert knowing.gain == pytest.approx(0.004)


def test_strangers_may_conflict_and_those_that_know_each_other_do_not() -> None:
    ground = terrain(conflicting=1.0)
    assert ground.merge(BASE, [patch(1, 0.001), patch(2, 0.003)]) is None
    assert ground.merge(BASE, [patch(1, 0.001), patch(2, 0.003, 1)]) is not None


def test_patches_are_drawn_as_the_landscape_says() -> None:
    ground = terrain()
    drawn = [next(iter(ground.propose(BASE).patches.values())) for _ in range(20_000)]
    gains = [p.gain for p in drawn if p.gain]
    assert len(gains) / len(drawn) == pytest.approx(PUBLISHED.gains.share, abs=0.01)
    assert sum(gains) / len(gains) == pytest.approx(PUBLISHED.gains.mean, rel=0.1)
    crashed = sum(p.crashes for p in drawn) / len(drawn)
    assert crashed == pytest.approx(PUBLISHED.runs.crashed, abs=0.003)


def test_the_nth_patch_is_the_same_whatever_it_is_made_on() -> None:
    one, other = terrain(), terrain()
    on_base = [one.propose(BASE) for _ in range(3)][-1].patches[3]
    tree = BASE
    for _ in range(3):
        tree = other.propose(tree)
    assert (tree.patches[3].gain, tree.patches[3].harm) == (on_base.gain, on_base.harm)
