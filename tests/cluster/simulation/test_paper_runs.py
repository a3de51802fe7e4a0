"""What runs differ by: chance of their own, and what their seed brings to every tree."""

import math
from collections import defaultdict
from statistics import fmean, pvariance

import pytest

from cluster.simulation.landscape import load_landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC, SimulatedStudy
from eval.bayes import BayesJudge

NOISE = 0.0005


def errors(seed: int, share: float, hours: float = 1.0) -> dict[int, list[float]]:
    """Return by how much each scored trial of a study is off, by the trial's seed."""
    landscape = load_landscape("published").changed(runs__noise=NOISE, runs__seed_share=share)
    judge = BayesJudge(metric=METRIC)
    study = SimulatedStudy(Setup(landscape=landscape, judge=judge, slots=8, hours=hours, seed=seed))
    found: dict[int, list[float]] = defaultdict(list)
    for experiment in study.run().experiments.values():
        true = landscape.baseline - study.terrain.improvement(study.trees[experiment.id])
        for trial in experiment.trials:
            if trial.outcome and trial.outcome.value is not None:
                found[trial.seed].append(trial.outcome.value - true)
    return found


def test_where_seeds_are_all_there_is_runs_of_one_seed_are_off_alike() -> None:
    found = errors(1, 1.0)
    assert len(found) >= 3
    assert len(found[1]) > 40
    for values in found.values():
        assert max(values) - min(values) < 1e-12
    assert len({round(values[0], 12) for values in found.values()}) == len(found)


def test_what_seeds_share_is_the_share_that_is_asked_for() -> None:
    common, own = [], []
    for study in range(30):
        first = errors(study, 0.6)[1]
        common.append(fmean(first) / NOISE)
        own.append(pvariance(first) / NOISE**2)
    assert pvariance(common) == pytest.approx(0.6, abs=3 * 0.6 * math.sqrt(2 / 30))
    assert fmean(common) == pytest.approx(0.0, abs=3 * math.sqrt(0.6 / 30))
    assert fmean(own) == pytest.approx(0.4, abs=0.05)


def test_by_default_seeds_share_nothing() -> None:
    assert load_landscape("published").runs.seed_share == 0.0
    found = errors(1, 0.0, hours=8.0)
    assert pvariance(found[1]) == pytest.approx(NOISE**2, rel=0.2)
    assert fmean(found[1]) == pytest.approx(0.0, abs=4 * NOISE / math.sqrt(len(found[1])))
