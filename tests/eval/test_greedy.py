"""Plain autoresearch's rule: what is better is kept, and what is equal and shorter."""

import pytest

from eval.judge import Circumstance, GreedyJudge, Verdict
from eval.metric import Metric
from tests.eval.judging import ACCURACY, LOSS, tree

GREEDY = GreedyJudge(metric=LOSS)


def verdict(
    value: float, *, lines: int = 100, metric: Metric = LOSS, simplicity: bool = True
) -> tuple[Verdict, str]:
    judge = GreedyJudge(metric=metric, simplicity=simplicity)
    found = judge.judge(tree(value, lines=lines), tree(0.5), Circumstance())
    assert judge.is_ahead(tree(value, lines=lines), tree(0.5)) is (found.verdict is Verdict.KEEP)
    return found.verdict, found.reason


@pytest.mark.parametrize("metric", [LOSS, ACCURACY])
def test_any_improvement_is_kept_after_one_run_however_long_it_is(metric: Metric) -> None:
    less, more = verdict(0.4999, metric=metric, lines=900), verdict(0.5001, metric=metric, lines=1)
    kept, discarded = (less, more) if metric is LOSS else (more, less)
    assert kept == (Verdict.KEEP, "better")
    assert discarded == (Verdict.DISCARD, "worse")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (98, (Verdict.KEEP, "equal, and 2 lines shorter")),
        (99, (Verdict.KEEP, "equal, and 1 line shorter")),
        (100, (Verdict.DISCARD, "equal")),
        (101, (Verdict.DISCARD, "equal")),
    ],
)
def test_what_is_equal_is_kept_if_it_is_shorter(lines: int, expected: tuple[Verdict, str]) -> None:
    assert verdict(0.5, lines=lines) == expected


def test_without_simplicity_what_is_equal_is_discarded_however_short() -> None:
    assert verdict(0.5, lines=1, simplicity=False) == (Verdict.DISCARD, "equal")


def test_a_baseline_is_kept_after_one_run() -> None:
    assert GREEDY.begin(tree(0.5), Circumstance()).verdict is Verdict.KEEP


def test_of_several_runs_the_mean_counts() -> None:
    found = GREEDY.judge(tree(0.3, 0.8), tree(0.5), Circumstance())
    assert found.verdict is Verdict.DISCARD
    assert found.delta == pytest.approx(-0.05)
