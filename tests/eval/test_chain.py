"""Scores smoothed along a chain of merges."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.beliefs import Belief
from eval.chain import Link, score_chain
from eval.metric import Goal, Metric
from eval.seed_effects import Measured

LOSS = Metric(name="loss", goal=Goal.MINIMIZE, pattern="x")
ACCURACY = Metric(name="accuracy", goal=Goal.MAXIMIZE, pattern="x")
START = Belief(mean=1.0, variance=0.01**2)
SIGMA = 0.02


def link(gain: float, *values: float, sd: float = 0.01, may_win: bool = True) -> Link:
    own = Measured(mean=fmean(values), runs=len(values)) if values else None
    return Link(expected=Belief(mean=gain, variance=sd**2), own=own, may_win=may_win)


LINKS = st.lists(
    st.builds(
        lambda gain, sd, values: link(gain, *values, sd=sd),
        st.floats(-0.1, 0.1),
        st.floats(0.001, 0.1),
        st.lists(st.floats(0.5, 1.5), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@given(links=LINKS)
def test_it_is_what_all_runs_say_together(links: list[Link]) -> None:
    """Against the joint normal distribution of start and effects, conditioned at one go."""
    k = len(links)
    mean = np.array([START.mean, *(-0.9 * one.expected.mean for one in links)])
    spread = [one.expected.variance + (0.35 * one.expected.mean) ** 2 for one in links]
    covariance = np.diag([START.variance, *spread])
    sums = np.tril(np.ones((k + 1, k + 1)))  # scores along the chain from start and steps
    rows = [sums[place] for place, one in enumerate(links, start=1) if one.own]
    if rows:
        own = [one.own for one in links if one.own]
        seen = np.array([one.mean for one in own])
        h, noise = np.array(rows), np.diag([SIGMA**2 / one.runs for one in own])
        gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + noise)
        mean = mean + gain @ (seen - h @ mean)
        covariance = covariance - gain @ h @ covariance
    found = score_chain(START, links, sigma=SIGMA, metric=LOSS, surprise=math.inf)
    scores = sums @ covariance @ sums.T
    told = [found.start, *found.scores]
    assert [b.mean for b in told] == pytest.approx(list(sums @ mean), abs=1e-9)
    assert [b.variance for b in told] == pytest.approx(list(np.diag(scores)), rel=1e-6, abs=1e-12)
    assert [b.mean for b in found.effects] == pytest.approx(list(-mean[1:]), abs=1e-9)
    variances = list(np.diag(covariance)[1:])
    assert [b.variance for b in found.effects] == pytest.approx(variances, rel=1e-6, abs=1e-12)


def test_a_lucky_run_does_not_decide_against_its_neighbours() -> None:
    """The second link's run is the lowest of all, but the third's patch is known to gain."""
    links = [link(0.05, 0.95), link(0.05, 0.86, sd=0.001), link(0.05, 0.87, sd=0.001)]
    assert score_chain(START, links, sigma=SIGMA, metric=LOSS).best == 3


def test_what_was_not_scored_or_may_not_win_is_not_the_best() -> None:
    links = [link(0.05, 0.95), link(0.05), link(0.05, 0.8, may_win=False)]
    found = score_chain(START, links, sigma=SIGMA, metric=LOSS)
    assert found.best == 1
    assert found.scores[1].mean < found.scores[0].mean  # known by its neighbours all the same


def test_nothing_wins_that_is_no_better_than_the_start() -> None:
    links = [link(0.001, 1.1), link(0.001, 1.1)]
    assert score_chain(START, links, sigma=SIGMA, metric=LOSS).best == 0


def test_a_patch_that_breaks_the_tree_says_nothing_of_the_trees_below_it() -> None:
    """As when a higher rate meets a higher momentum: the run diverges, and so do those above."""
    links = [link(0.3, 0.73), link(0.5, 2.3, sd=0.02), link(0.2, 2.31, sd=0.02)]
    found = score_chain(START, links, sigma=SIGMA, metric=LOSS)
    assert found.breaks == (False, True, False)
    assert found.best == 1
    assert found.scores[0].mean == pytest.approx(0.73, abs=0.005)
    assert found.effects[1].mean == pytest.approx(0.73 - 2.3, abs=0.02)
    shared = score_chain(START, links, sigma=SIGMA, metric=LOSS, surprise=math.inf)
    assert shared.scores[0].mean > 0.74


def test_a_harm_that_nobody_expected_is_the_patch_s_and_not_the_start_s() -> None:
    links = [link(0.02, 1.2)]
    found = score_chain(START, links, sigma=SIGMA, metric=LOSS)
    assert found.start.mean == pytest.approx(START.mean, abs=0.002)
    assert score_chain(START, links, sigma=SIGMA, metric=LOSS, surprise=math.inf).start.mean > 1.02
    assert found.breaks == (True,)
    gain = score_chain(START, [link(0.02, 0.8)], sigma=SIGMA, metric=LOSS)
    assert (gain.best, gain.breaks) == (1, (False,))
    assert gain.scores[0].mean == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize("metric", [LOSS, ACCURACY])
def test_what_noise_explains_is_no_break(metric: Metric) -> None:
    links = [link(0.02, 1.05), link(0.02, 0.95)]
    assert score_chain(START, links, sigma=SIGMA, metric=metric).breaks == (False, False)


def test_more_can_be_better() -> None:
    links = [link(0.05, 1.05), link(0.05, 1.1), link(0.02, 1.0)]
    found = score_chain(START, links, sigma=SIGMA, metric=ACCURACY)
    assert found.best == 2
    assert found.effects[0].mean > 0 > found.effects[2].mean
    assert found.chance(0) > 0.95
    assert found.chance(2) < 0.4
