"""What a rule would have stopped, had it been on: time is played again, and knows no future."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.curve import STEP, Curve
from eval.pruner import Finished, PruningRule
from eval.pruning_replay import PastTrial, replay

BUDGET_S = 100.0


class WorseThanAll:
    """A pruner by the latest value alone."""

    def is_hopeless(self, curve: Curve, finished: Sequence[Finished]) -> bool:
        return all(curve.last > other.curve.until(curve.percent).last for other in finished)


RULE = PruningRule(pruner=WorseThanAll(), number="loss", warmup=0.3, least=1)


def past(number: int, loss: float, begin_s: float, **facts: object) -> PastTrial:
    """A trial of 100 s with a level curve that ends as it was."""
    values = tuple((percent, loss) for percent in range(STEP, 101, STEP))
    made = PastTrial(
        trial=f"e{number}.1",
        experiment=f"e{number}",
        device_class="cpu",
        started_s=begin_s,
        ended_s=begin_s + 100.0,
        curve=Curve(values=values),
        value=loss,
        may_be_stopped=number > 0,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def test_what_is_stopped_saves_the_rest_of_its_run_and_all_further_ones() -> None:
    worse = past(1, 3.0, 100.0, further_s=200.0)
    (stop,) = replay([past(0, 2.0, 0.0), worse], RULE, BUDGET_S)
    assert (stop.past, stop.percent, stop.saved_s) == (worse, 30, 270.0)
    assert stop.reason.startswith("hopeless: loss 3 at 30 %")


def test_a_trial_is_held_against_those_alone_that_had_finished_by_then() -> None:
    beside = past(1, 3.0, 45.0)
    (stop,) = replay([past(0, 2.0, 0.0), beside], RULE, BUDGET_S)
    assert stop.percent == 55
    assert not replay([past(0, 2.0, 0.0), past(1, 3.0, 0.0)], RULE, BUDGET_S)


def test_what_was_stopped_is_not_there_to_hold_others_against() -> None:
    """e1 would be stopped by e0; then e2 has only e0 before it, of another device class."""
    trials = [
        past(0, 2.0, 0.0),
        past(1, 3.0, 100.0),
        past(2, 4.0, 200.0, device_class="cpu"),
        past(3, 9.0, 300.0, device_class="gpu"),
    ]
    assert [stop.past.trial for stop in replay(trials, RULE, BUDGET_S)] == ["e1.1", "e2.1"]
    strict = replace(RULE, least=2)
    assert [stop.past.trial for stop in replay(trials, strict, BUDGET_S)] == ["e2.1"]


@pytest.mark.parametrize("facts", [{"may_be_stopped": False}, {"device_class": "gpu"}])
def test_replicates_and_other_devices_are_left_alone(facts: dict[str, object]) -> None:
    assert not replay([past(0, 2.0, 0.0), past(1, 3.0, 100.0, **facts)], RULE, BUDGET_S)


def test_trials_without_a_score_are_stopped_too_but_stop_nothing() -> None:
    crashed = past(1, 3.0, 100.0, value=None)
    assert replay([past(0, 2.0, 0.0), crashed], RULE, BUDGET_S)
    assert not replay([past(0, 2.0, 0.0, value=None), past(1, 3.0, 100.0)], RULE, BUDGET_S)


def test_what_it_had_already_lost_when_it_ended_early_is_not_saved() -> None:
    """A trial that crashed at 20 s is past saving, whatever its curve says of later."""
    short = past(1, 3.0, 100.0, ended_s=120.0)
    assert not replay([past(0, 2.0, 0.0), short], RULE, BUDGET_S)


@given(
    losses=st.lists(st.floats(1, 9), min_size=1, max_size=12),
    gaps=st.lists(st.floats(0, 120), min_size=12, max_size=12),
    warmup=st.floats(0, 0.9),
)
def test_nothing_is_stopped_in_the_warm_up_twice_or_for_more_than_it_took(
    losses: list[float], gaps: list[float], warmup: float
) -> None:
    at_s = 0.0
    trials = [past(number, loss, at_s := at_s + gaps[number]) for number, loss in enumerate(losses)]
    stops = replay(trials, replace(RULE, warmup=warmup), BUDGET_S)
    assert len({stop.past.trial for stop in stops}) == len(stops)
    for stop in stops:
        assert stop.percent >= 100 * warmup
        assert 0 < stop.saved_s <= 100 * (1 - warmup) + 1e-6
