"""Optuna's pruners say what is hopeless, in whichever direction curve and metric improve."""

from collections.abc import Sequence

import pytest

from cluster.controller.optuna_pruners import pruning_rule
from eval.config import PrunerConfig
from eval.curve import STEP, Curve
from eval.metric import Goal
from eval.pruner import Finished, PruningRule

KINDS = ["median", "percentile", "patient", "wilcoxon"]


def curve(values: Sequence[float]) -> Curve:
    return Curve(values=tuple(((n + 1) * STEP, value) for n, value in enumerate(values)))


def falling(floor: float, steps: int = 20) -> Curve:
    """A loss that halves its distance to where it ends, each step."""
    return curve([floor * (1 + 2.0**-n) for n in range(steps)])


def rule(metric: Goal = Goal.MINIMIZE, **keys: object) -> PruningRule:
    found = pruning_rule(PrunerConfig(**keys), metric)  # type: ignore[arg-type]
    assert found is not None
    return found


FINISHED = [Finished(curve=falling(floor), value=floor) for floor in (1.0, 1.1, 1.2, 1.3, 1.4)]


def test_none_gives_no_trial_up() -> None:
    assert pruning_rule(PrunerConfig(), Goal.MINIMIZE) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_far_behind_all_others_is_hopeless_and_one_ahead_of_them_is_not(kind: str) -> None:
    asked = rule(kind=kind)
    worse = curve([3.0 + 0.01 * n for n in range(12)])
    reason = asked.reason(worse, FINISHED)
    assert reason.startswith("hopeless: loss 3.11 at 60 % of the budget, where 5 finished trials")
    assert not asked.reason(falling(0.9, 12), FINISHED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_curves_upside_down_are_judged_the_same(kind: str) -> None:
    """An accuracy that is printed and a metric that is to be maximised."""
    asked = rule(Goal.MAXIMIZE, kind=kind, curve="accuracy", goal="maximize")
    finished = [
        Finished(curve=curve([-v for _, v in each.curve.values]), value=-each.value)
        for each in FINISHED
    ]
    assert asked.reason(curve([-3.0 - 0.01 * n for n in range(12)]), finished)
    assert not asked.reason(curve([-v for _, v in falling(0.9, 12).values]), finished)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_repeats_a_finished_one_is_not_hopeless(kind: str) -> None:
    asked = rule(kind=kind, least=1, warmup=0.0)
    assert not asked.reason(falling(1.0, 5), FINISHED[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_given_up_while_it_warms_up_or_while_too_few_have_finished(kind: str) -> None:
    bad = curve([3.0 + n for n in range(12)])
    assert rule(kind=kind).reason(bad, FINISHED)
    assert not rule(kind=kind, warmup=0.61).reason(bad, FINISHED)
    assert not rule(kind=kind, least=6).reason(bad, FINISHED)
    assert not rule(kind=kind).reason(Curve(), FINISHED)


def test_trials_that_ended_earlier_do_not_count_among_those_that_must_have_finished() -> None:
    short = [Finished(curve=each.curve.until(50), value=each.value) for each in FINISHED]
    bad = curve([3.0] * 12)
    assert not rule(kind="median").reason(bad, short)
    assert rule(kind="median").reason(bad.until(50), short)


def test_percentile_says_how_many_of_the_finished_a_trial_must_be_among() -> None:
    fourth = falling(1.35, 12)
    assert not rule(kind="percentile", percentile=90.0).reason(fourth, FINISHED)
    assert rule(kind="percentile", percentile=60.0).reason(fourth, FINISHED)


def test_patient_waits_until_a_curve_behind_the_median_has_stood_still() -> None:
    asked = rule(kind="patient", patience=0.2)
    still_falling = curve([4.0 - 0.1 * n for n in range(12)])
    stuck = curve([*(4.0 - 0.1 * n for n in range(7)), *[3.5] * 5])
    assert rule(kind="median").reason(still_falling, FINISHED)
    assert not asked.reason(still_falling, FINISHED)
    assert not asked.reason(stuck.until(55), FINISHED)
    assert asked.reason(stuck, FINISHED)


def test_flat_ends_what_has_stood_still_however_good_it_is_and_needs_nobody_to_compare() -> None:
    asked = rule(kind="flat", patience=0.2, least=5)
    best = curve([*(1.0 - 0.1 * n for n in range(7)), *[0.45] * 5])
    assert not asked.reason(best.until(55), FINISHED)
    assert asked.reason(best, []) == (
        "flat: loss 0.45 at 60 % of the budget, which has not improved for a while"
    )
    assert not asked.reason(curve([4.0 - 0.1 * n for n in range(12)]), FINISHED)
    assert not rule(kind="flat", warmup=0.61).reason(best, [])


def test_wilcoxon_compares_with_the_best_by_the_metric_alone() -> None:
    """The best by the metric has the second best curve."""
    finished = [
        Finished(curve=falling(1.0), value=5.0),
        Finished(curve=falling(2.0), value=1.0),
    ]
    asked = rule(kind="wilcoxon", least=2)
    assert not asked.reason(falling(1.5, 12), finished)
    assert asked.reason(falling(2.5, 12), finished)
