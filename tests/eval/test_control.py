"""When a run of a tree that is known says that its slot has shifted."""

from random import Random

import pytest

from eval.beliefs import Belief
from eval.control import BEYOND, read
from eval.judge import Evidence
from eval.metric import Goal, Metric
from eval.noise import Noise, pooled_noise
from eval.score import Score

DOWN = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"(x)")
UP = Metric(name="accuracy", goal=Goal.MAXIMIZE, pattern=r"(x)")


def known(*values: float, belief: Belief | None = None) -> Evidence:
    return Evidence(score=Score(values=values, device_class="gpu"), lines=10, belief=belief)


@pytest.mark.parametrize(("metric", "better"), [(DOWN, -1.0), (UP, 1.0)])
def test_a_shift_is_positive_where_the_control_is_better(metric: Metric, better: float) -> None:
    found = read(10.0 + better, known(10.0, 10.0), Noise(sigma=0.1, dof=10), metric)
    assert found.shift == pytest.approx(1.0)
    assert found.surprise > BEYOND
    assert found.is_shifted


def test_honest_controls_are_called_shifted_about_once_in_370_however_few_runs_tell_of_noise() -> (
    None
):
    chance = Random(5)
    tries = 20_000
    for runs in (3, 6, 20):
        false = 0
        for _ in range(tries):
            values = [chance.gauss(0, 1) for _ in range(runs)]
            found = read(chance.gauss(0, 1), known(*values), pooled_noise([values]), DOWN)
            false += found.is_shifted
        assert 0.0015 < false / tries < 0.005


def test_where_nothing_is_known_nothing_has_shifted() -> None:
    assert not read(9.0, None, Noise(sigma=0.1, dof=10), DOWN).is_shifted
    assert not read(9.0, known(1.0), Noise(), DOWN).is_shifted


def test_where_runs_repeat_exactly_any_other_value_is_a_shift() -> None:
    exact = Noise(sigma=0.0, dof=8)
    assert not read(1.0, known(1.0, 1.0), exact, DOWN).is_shifted
    assert read(1.0001, known(1.0, 1.0), exact, DOWN).is_shifted


def test_where_few_runs_have_repeated_exactly_another_value_is_news_of_the_noise() -> None:
    assert not read(1.001, known(1.0, 1.0), Noise(sigma=0.0, dof=7), DOWN).is_shifted


def test_a_belief_moves_towards_the_control_by_what_each_knows() -> None:
    before = Belief(mean=1.0, variance=0.01)
    found = read(1.1, known(1.0, belief=before), Noise(sigma=0.1, dof=50), DOWN)
    assert found.belief is not None
    assert found.belief.mean == pytest.approx(1.05)
    assert found.belief.variance == pytest.approx(0.005)
