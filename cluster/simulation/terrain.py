"""Patches and trees of a landscape: what they are truly worth, and what merging two brings. Pure.

A tree is a set of patches. Its true improvement over the baseline is

    ceiling * (1 - exp(-gains / ceiling)) - harms

where `gains` adds up what its patches bring by themselves, less what clashes between them take. So
gains shrink as the ceiling comes nearer, the order of patches does not matter, and a patch is worth
the same share of what is left on whichever tree it lands.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random

from cluster.simulation.landscape import Landscape


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A change, by what it does to the score."""

    number: int
    gain: float
    """What it would improve an unmodified baseline by, at least zero."""
    harm: float
    """Damage, at least zero."""
    crashes: bool
    knows: frozenset[int]
    """The patches of the tree that it was made on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A set of patches on the baseline."""

    patches: Mapping[int, Patch]
    gain: float = 0.0
    """Of all patches together, before the ceiling, in the metric's unit."""
    harm: float = 0.0

    @property
    def name(self) -> str:
        """A name that equal trees share."""
        return "+".join(map(str, sorted(self.patches))) or "base"

    @property
    def crashes(self) -> bool:
        """Say whether runs of it crash."""
        return any(patch.crashes for patch in self.patches.values())


class Terrain:
    """Draws the patches of a landscape, one after another, and knows their worth.

    The n-th patch is the same for every policy of the same seed, so that policies are compared on
    the same luck as far as that goes.
    """

    def __init__(self, landscape: Landscape, seed: int) -> None:
        self._landscape = landscape
        self._seed = seed
        self._random = Random(f"patches/{seed}")  # noqa: S311 - chance, not a secret
        self._patches = 0

    def improvement(self, tree: Tree) -> float:
        """Return a tree's true improvement over the baseline, in the metric's unit."""
        ceiling = self._landscape.gains.ceiling
        return -ceiling * math.expm1(-tree.gain / ceiling) - tree.harm

    def shown(self, tree: Tree, part: float) -> float:
        """Return what a run with this part of the budget shows of a tree's improvement.

        How far that is astray is a property of the patch that the tree was proposed with, the same
        in each run, as one starts slowly and another learns fast and ends early: normal, with
        `astray` times sqrt((1 - part) / part).
        """
        newest = max(tree.patches, default=0)
        luck = Random(f"course/{self._seed}/{newest}").gauss(0.0, 1.0)  # noqa: S311 - see above
        spread = self._landscape.runs.astray * math.sqrt((1 - part) / part)
        return self.improvement(tree) + luck * spread

    def propose(self, tree: Tree) -> Tree:
        """Return the tree with one more patch."""
        drawn = self._draw(frozenset(tree.patches))
        return Tree(
            patches={**tree.patches, drawn.number: drawn},
            gain=tree.gain + drawn.gain,
            harm=tree.harm + drawn.harm,
        )

    def carry(self, tree: Tree, base: Tree, onto: Tree) -> Tree | None:
        """Return `onto` with what `tree` has beyond `base`; None if git cannot merge that."""
        own = tree.patches.items()
        return self.merge(onto, [patch for number, patch in own if number not in base.patches])

    def merge(self, onto: Tree, patches: Iterable[Patch]) -> Tree | None:
        """Return `onto` with those patches that it lacks; None if git cannot merge them."""
        merged = onto
        for patch in patches:
            if patch.number not in merged.patches:
                strangers = [p for p in merged.patches.values() if _are_strangers(p, patch)]
                if any(self._conflict(p, patch) for p in strangers):
                    return None
                lost = sum(self._clash(p, patch) for p in strangers)
                merged = replace(
                    merged,
                    patches={**merged.patches, patch.number: patch},
                    gain=merged.gain + patch.gain - lost,
                    harm=merged.harm + patch.harm,
                )
        return merged

    def _draw(self, knows: frozenset[int]) -> Patch:
        """Draw the next patch; always as many random numbers, so that the next ones stay put."""
        kind, size, crash = (self._random.random() for _ in range(3))
        gains, harms = self._landscape.gains, self._landscape.harms
        # Inverse of the Weibull distribution; scale * gamma(1 + 1 / shape) is its mean.
        unit = -math.log(1.0 - size)
        gain = harm = 0.0
        if kind < gains.share:
            scale = gains.mean / math.gamma(1 + 1 / gains.shape)
            gain = scale * unit ** (1 / gains.shape)
        elif kind < gains.share + harms.small_share:
            harm = harms.small_mean * unit
        elif kind < gains.share + harms.small_share + harms.large_share:
            harm = harms.large_mean * unit
        self._patches += 1
        return Patch(
            number=self._patches,
            gain=gain,
            harm=harm,
            crashes=crash < self._landscape.runs.crashed,
            knows=knows,
        )

    def _conflict(self, one: Patch, other: Patch) -> bool:
        return self._chance(one, other, 0) < self._landscape.together.conflicting

    def _clash(self, one: Patch, other: Patch) -> float:
        """Return what two patches take from each other."""
        together = self._landscape.together
        if self._chance(one, other, 1) >= together.clashing:
            return 0.0
        return together.cost * min(one.gain, other.gain)

    def _chance(self, one: Patch, other: Patch, what: int) -> float:
        """Return a number from 0 to 1 that depends on the pair alone, whoever merges it when."""
        low, high = sorted((one.number, other.number))
        mixed = (self._seed * 1_000_003 + low) * 1_000_003 + high * 2 + what
        # The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        return (mixed ^ (mixed >> 31)) / 2**64


def _are_strangers(one: Patch, other: Patch) -> bool:
    """Say whether neither of two patches was made with the other in view."""
    return one.number not in other.knows and other.number not in one.knows
