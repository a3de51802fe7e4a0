"""The Ladder: what is told of a holdout, how little, and when its silence is suspicious."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eval.holdout import Look, gap, ladder, stall
from eval.metric import Goal, Metric

LOSS = Metric(name="loss", goal=Goal.MINIMIZE, pattern="")
ACCURACY = Metric(name="accuracy", goal=Goal.MAXIMIZE, pattern="")
VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=50)


def climb(values: list[float], step: float, metric: Metric = LOSS) -> list[float]:
    told: list[float] = []
    for value in values:
        told.append(ladder(told[-1] if told else None, value, step=step, metric=metric))
    return told


def looks(validation: list[float], holdout: list[float], step: float = 0.0) -> list[Look]:
    return [
        Look(validation=v, holdout=h, step=step) for v, h in zip(validation, holdout, strict=True)
    ]


def test_only_what_is_better_by_more_than_a_step_is_told_and_rounded_to_it() -> None:
    assert climb([0.52, 0.45, 0.58, 0.31, 0.26], 0.1) == [0.5, 0.5, 0.5, 0.1 * 3, 0.1 * 3]
    assert climb([0.52, 0.55, 0.69], 0.1, ACCURACY) == [0.5, 0.5, 0.1 * 7]


def test_without_a_step_every_improvement_is_told_as_it_is() -> None:
    assert climb([0.5, 0.6, 0.4999], 0.0) == [0.5, 0.5, 0.4999]


@given(VALUES, st.floats(0.001, 50))
def test_it_never_goes_back_and_answers_as_often_as_steps_fit_into_the_range(
    values: list[float], step: float
) -> None:
    told = climb(values, step)
    assert all(after <= before for before, after in pairwise(told))
    assert len(set(told)) <= (max(values) - min(values)) / (step / 2) + 1


@given(VALUES, st.floats(0.001, 50))
def test_what_it_tells_is_within_a_step_and_a_half_of_the_best(
    values: list[float], step: float
) -> None:
    assert abs(climb(values, step)[-1] - min(values)) <= 1.5 * step + 1e-9


def test_the_gap_is_what_validation_says_more_whichever_way_is_better() -> None:
    assert gap(Look(validation=0.3, holdout=0.5, step=0), LOSS) > 0
    assert gap(Look(validation=0.5, holdout=0.3, step=0), ACCURACY) > 0


def test_validation_that_gets_better_without_the_holdout_is_suspicious_after_a_while() -> None:
    validation, holdout = [0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.4, 0.4, 0.4, 0.4]
    found = stall(looks(validation, holdout), LOSS)
    assert (found.promotions, found.is_suspicious) == (3, True)
    assert abs(found.gained - 0.3) < 1e-12
    assert not stall(looks(validation[:4], holdout[:4]), LOSS).is_suspicious, "two may be chance"


def test_gains_too_small_to_be_told_are_not_suspicious() -> None:
    validation, holdout = [0.50, 0.49, 0.48, 0.47], [0.5, 0.5, 0.5, 0.5]
    assert not stall(looks(validation, holdout, step=0.02), LOSS).is_suspicious
    assert stall(looks(validation, holdout, step=0.01), LOSS).is_suspicious


def test_a_holdout_that_gets_better_too_is_not_suspicious() -> None:
    found = stall(looks([0.5, 0.4, 0.3, 0.2], [0.6, 0.5, 0.4, 0.3]), LOSS)
    assert (found.promotions, found.is_suspicious) == (0, False)
    assert not stall([], LOSS).is_suspicious
