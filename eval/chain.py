"""How far along a chain of merges the score still improves. Pure.

A chain begins on a tree whose score is believed, and each link adds one patch to the tree before
it. The scores along it are a random walk whose steps are the patches' effects: a Kalman filter
forward and a smoother backward (Rauch, Tung and Striebel, 1965) let each run tell of all trees of
the chain, so that one run of each suffices, and a tree without a score is known by its neighbours.

A patch may do on another tree what nobody expected. Where a run is too far from what is assumed of
its patch to be chance, the step is taken to be as wide as it is seen to be (an adaptive filter, by
its innovations: Mehra, 1972): else the surprise would be shared out among the trees beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eval.assumptions import MERGED_SHARE, MERGED_SPREAD
from eval.beliefs import Belief
from eval.metric import Metric
from eval.normal import survival
from eval.seed_effects import Measured

SURPRISE = 4.0
"""Standard deviations of what was expected of a link's runs, beyond which they are no chance: of
links that are as assumed, one in 16,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One tree of a chain: the one before it, and a patch."""

    expected: Belief
    """The patch's effect where it was last measured; positive is better."""
    own: Measured | None = None
    """What its runs say of it; None if no run was scored."""
    may_win: bool = True
    """It may be promoted, if it was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainScores:
    """What the runs of all links say together."""

    start: Belief
    """True score of the tree that the chain begins on."""
    scores: tuple[Belief, ...]
    """True score of each link's tree."""
    effects: tuple[Belief, ...]
    """Effect of each link's patch on the tree before it; positive is better."""
    breaks: tuple[bool, ...]
    """Whether each link's patch does a harm there that is beyond what was to be expected of it:
    what is seen of patches above tells of a tree that is broken."""
    best: int
    """How many links lead to the best tree that may win; 0 if none beats the start."""

    def chance(self, link: int) -> float:
        """Return the probability that a link's patch improves, links counted from 0."""
        effect = self.effects[link]
        sd = math.sqrt(effect.variance)
        return 1 - survival(effect.mean / sd) if sd else float(effect.mean > 0)


def score_chain(
    start: Belief,
    links: Sequence[Link],
    *,
    sigma: float,
    metric: Metric,
    surprise: float = SURPRISE,
) -> ChainScores:
    """Smooth the scores along a chain; `sigma` is the noise of one run, above zero."""
    better = metric.improvement(0.0, 1.0)  # 1, or -1 where more is better
    ahead, known = [start], [start]  # each tree before and after its own runs are looked at
    breaks = []
    for link in links:
        before = known[-1]
        drift = MERGED_SHARE * link.expected.mean
        spread = link.expected.variance + (MERGED_SPREAD * link.expected.mean) ** 2
        expected = Belief(mean=before.mean - better * drift, variance=before.variance + spread)
        off = _surprise(expected, link.own, sigma)
        is_surprise = abs(off.mean) > surprise * math.sqrt(off.variance)
        ahead.append(replace(expected, variance=off.mean**2) if is_surprise else expected)
        breaks.append(is_surprise and better * off.mean > 0)
        known.append(_seen(ahead[-1], link.own, sigma))
    scores, gains = _backward(ahead, known)
    effects = tuple(
        Belief(
            mean=metric.improvement(new.mean, old.mean),
            variance=max(0.0, new.variance + old.variance - 2 * gain * new.variance),
        )
        for old, new, gain in zip(scores, scores[1:], gains, strict=False)
    )
    return ChainScores(
        start=scores[0],
        scores=tuple(scores[1:]),
        effects=effects,
        breaks=tuple(breaks),
        best=_best(scores, links, metric),
    )


def _surprise(expected: Belief, own: Measured | None, sigma: float) -> Belief:
    """Return how far a tree's runs are from what was expected, and how far they may well be."""
    if own is None:
        return Belief(mean=0.0, variance=0.0)
    return Belief(mean=own.mean - expected.mean, variance=expected.variance + sigma**2 / own.runs)


def _seen(before: Belief, own: Measured | None, sigma: float) -> Belief:
    """Return what to believe of a tree after its runs."""
    if own is None:
        return before
    share = before.variance / (before.variance + sigma**2 / own.runs)
    return Belief(
        mean=before.mean + share * (own.mean - before.mean),
        variance=before.variance * (1 - share),
    )


def _backward(ahead: list[Belief], known: list[Belief]) -> tuple[list[Belief], list[float]]:
    """Return all trees' scores given all runs, and how each follows the next one's surprise."""
    scores, gains = [known[-1]], []
    for before, after in zip(known[-2::-1], ahead[:0:-1], strict=True):
        later = scores[-1]
        gain = before.variance / after.variance if after.variance else 0.0
        scores.append(
            Belief(
                mean=before.mean + gain * (later.mean - after.mean),
                variance=before.variance + gain**2 * (later.variance - after.variance),
            )
        )
        gains.append(gain)
    return scores[::-1], gains[::-1]


def _best(scores: Sequence[Belief], links: Sequence[Link], metric: Metric) -> int:
    best = 0
    for number, link in enumerate(links, start=1):
        better = metric.is_better(scores[number].mean, scores[best].mean)
        if link.own and link.may_win and better:
            best = number
    return best
