"""The model: suggestions on the axes, and what it makes of what it is told."""

import math
import time

import pytest

from eval.metric import Goal
from proposer.optuna_model import OptunaModel, Standing
from proposer.space import Axis, AxisKind

AXES = {
    "x": Axis(kind=AxisKind.REAL, low=-1.0, high=1.0),
    "r": Axis(kind=AxisKind.REAL, low=1e-4, high=1.0, log=True),
    "n": Axis(kind=AxisKind.WHOLE, low=2, high=5),
    "c": Axis(kind=AxisKind.UNORDERED, low=0, high=2),
}
SAMPLERS = ["tpe", "random", "cmaes", "evolution", "gp"]


def model(sampler: str = "tpe", seed: int = 0, axes: dict[str, Axis] | None = None) -> OptunaModel:
    return OptunaModel(axes or AXES, sampler, Goal.MINIMIZE, seed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_lie_on_their_axes_before_and_after_results(sampler: str) -> None:
    search = model(sampler)
    for number in range(13):
        suggested, notes = search.suggest()
        assert set(suggested) == set(AXES)
        for name, axis in AXES.items():
            assert axis.low <= suggested[name] <= axis.high
            assert axis.kind is AxisKind.REAL or suggested[name] == int(suggested[name])
        running = search.add(suggested, Standing.RUNNING, notes=notes)
        search.finish(running, Standing.SCORED, float(number))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_suggests_the_same(sampler: str) -> None:
    assert model(sampler, 7).suggest()[0] == model(sampler, 7).suggest()[0]
    assert model(sampler, 7).suggest()[0] != model(sampler, 8).suggest()[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_axis_is_enough(sampler: str) -> None:
    search = model(sampler, axes={"x": AXES["x"]})
    for number in range(12):
        at = search.suggest()[0]
        assert -1 <= at["x"] <= 1
        search.add({"x": number / 12}, Standing.SCORED, float(number))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_standing_can_be_told(sampler: str) -> None:
    search = model(sampler)
    for index, standing in enumerate(Standing):
        value = 1.0 if standing is Standing.SCORED else None
        search.add({"x": index / 10, "r": 0.1, "n": 3, "c": 1}, standing, value)
        if standing is not Standing.RUNNING:
            number = search.add({"x": -index / 10, "r": 0.1, "n": 3, "c": 1}, Standing.RUNNING)
            search.finish(number, standing, value)
    search.suggest()


def share_near_zero(search: OptunaModel) -> float:
    """Return how many of many suggestions have x close to 0."""
    return sum(abs(search.suggest()[0]["x"]) < 0.25 for _ in range(40)) / 40


def taught(near_zero: Standing) -> OptunaModel:
    """Return a model that knows equal scores everywhere, and a standing of the middle."""
    axes = {"x": AXES["x"]}
    search = model(axes=axes)
    for index in range(12):
        search.add({"x": -1 + index * 2 / 11}, Standing.SCORED, abs(-1 + index * 2 / 11))
    for index in range(20):
        search.add({"x": -0.2 + index / 50}, near_zero)
    return search


def test_failures_and_what_runs_are_kept_away_from_and_the_unknown_is_not() -> None:
    drawn = share_near_zero(taught(Standing.UNKNOWN))
    assert share_near_zero(taught(Standing.FAILED)) < drawn / 2
    assert share_near_zero(taught(Standing.RUNNING)) < drawn / 2


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_configuration_may_lack_axes(sampler: str) -> None:
    search = model(sampler)
    assert search.takes_parts
    for number in range(14):
        search.add({"x": number / 20}, Standing.SCORED, float(number))
    assert set(search.suggest()[0]) == set(AXES)
    search.add({"r": 0.1, "n": 3, "c": 1}, Standing.SCORED, 0.5)
    assert set(search.suggest()[0]) == set(AXES)


@pytest.mark.parametrize("goal", list(Goal))
def test_the_axis_that_decides_is_the_most_important(goal: Goal) -> None:
    search = OptunaModel(AXES, "random", goal, 3)
    assert search.importances() == {}
    for _ in range(80):
        at = search.suggest()[0]
        search.add(at, Standing.SCORED, at["x"] ** 2 + at["r"] / 100)
    found = search.importances()
    assert next(iter(found)) == "x"
    assert sum(found.values()) == pytest.approx(1)


def test_importances_of_thousands_of_scores_take_a_moment() -> None:
    search = OptunaModel({f"x{n}": AXES["x"] for n in range(12)}, "random", Goal.MINIMIZE, 3)
    for number in range(3000):
        at = {f"x{n}": math.sin(number * (n + 1)) for n in range(12)}
        search.add(at, Standing.SCORED, at["x3"])
    start = time.process_time()
    assert next(iter(search.importances())) == "x3"
    assert time.process_time() - start < 2


def test_cma_es_learns_from_results_that_it_did_not_ask_for() -> None:
    axes = {"x": AXES["x"], "y": AXES["x"]}
    search = model("cmaes", axes=axes)
    for index in range(60):
        at = {"x": 0.8 + index % 7 / 70, "y": -0.8 - index % 5 / 50}
        search.add(at, Standing.SCORED, (at["x"] - 0.85) ** 2 + (at["y"] + 0.85) ** 2)
    found = [search.suggest()[0] for _ in range(20)]
    assert sum(at["x"] > 0.4 and at["y"] < -0.4 for at in found) > 15


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="no sampler magic"):
        model("magic")


def test_the_goal_decides_what_is_better() -> None:
    axes = {"x": AXES["x"]}
    for goal, sign in ((Goal.MINIMIZE, -1), (Goal.MAXIMIZE, 1)):
        search = OptunaModel(axes, "tpe", goal, 0)
        for index in range(30):
            search.add({"x": -1 + index / 15}, Standing.SCORED, -1 + index / 15)
        drawn = [search.suggest()[0]["x"] * sign for _ in range(20)]
        assert sum(drawn) > 0
