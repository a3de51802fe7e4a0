"""What rungs would have done to trials that were run without them."""

from dataclasses import replace

import pytest

from eval.curve import STEP, Curve
from eval.ladder import Step
from eval.metric import Goal
from eval.pruning_replay import PastTrial
from eval.rung_replay import RungReplay, replay_rungs

BUDGET_S = 100.0
HALF = Step(budget_s=10.0, keep=0.5, fewest=2)


def past(number: int, early: float, late: float | None = None, **facts: object) -> PastTrial:
    """A trial of 120 s, of which 20 are beside its training; they follow one on the other."""
    ends = range(STEP, 101, STEP)
    values = tuple((p, early if late is None or p <= 50 else late) for p in ends)
    made = PastTrial(
        trial=f"e{number}.1",
        experiment=f"e{number}",
        device_class="cpu",
        started_s=120.0 * number,
        ended_s=120.0 * number + 120.0,
        curve=Curve(values=values),
        value=values[-1][1],
        may_be_stopped=True,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def played(*trials: PastTrial, steps: tuple[Step, ...] = (HALF,)) -> RungReplay:
    return replay_rungs(trials, steps, Goal.MINIMIZE, BUDGET_S)


def stopped(found: RungReplay) -> list[str]:
    return [stop.past.experiment for stop in found.stops]


def test_what_is_behind_on_the_rung_is_never_run_in_full() -> None:
    found = played(past(0, 1.0), past(1, 2.0, further_s=30.0))
    (stop,) = found.stops
    assert (stop.past.experiment, stop.percent, stop.saved_s) == ("e1", 10, 150.0)
    assert stop.reason == "rung of 10 s: place 2 of 2, of which the best 1 go on"
    assert found.rungs_s == pytest.approx(2 * (10.0 + 20.0))


def test_who_was_stopped_rises_when_enough_worse_ones_have_come() -> None:
    trials = [past(0, 1.0), past(1, 2.0), past(2, 3.0)]
    assert stopped(played(*trials)) == ["e2"]
    assert stopped(played(*trials[:2])) == ["e1"]


def test_a_second_rung_compares_those_alone_that_came_so_far() -> None:
    steps = (HALF, Step(budget_s=60.0, keep=0.5, fewest=2))
    trials = [past(0, 1.0, 4.0), past(1, 1.0, 5.0), past(2, 3.0, 0.0), past(3, 3.0, 0.0)]
    found = played(*trials, steps=steps)
    assert stopped(found) == ["e1", "e2", "e3"]
    assert [stop.percent for stop in found.stops] == [60, 10, 10]
    assert found.rungs_s == pytest.approx(4 * 30.0 + 2 * 80.0)


def test_what_may_not_be_stopped_has_no_rungs_and_another_class_is_not_compared() -> None:
    baseline = past(0, 1.0, may_be_stopped=False)
    other = past(1, 1.0, device_class="gpu")
    found = played(baseline, other, past(2, 2.0))
    assert not found.stops
    assert found.rungs_s == pytest.approx(60.0)


def test_what_failed_before_the_end_of_the_rung_costs_and_saves_nothing() -> None:
    early = past(1, 9.0, ended_s=125.0, curve=Curve(values=((5, 9.0),)), value=None)
    found = played(past(0, 1.0), early)
    assert not found.stops
    assert found.rungs_s == pytest.approx(30.0)


def test_where_the_order_turns_later_the_winner_is_lost() -> None:
    late = past(1, 3.0, 0.5, is_winner=True)
    (stop,) = played(past(0, 1.0), late).stops
    assert stop.past.is_winner
