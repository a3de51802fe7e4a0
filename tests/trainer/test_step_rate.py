"""Rates from counters: robust against what scripts do between steps, and silent without enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.log_capture import parse_points
from trainer.step_rate import StepCounter, StepRate, middle, slope


def counted(readings, counter="step"):
    steps = StepCounter()
    for at_s, value in readings:
        steps.feed(at_s, {counter: value})
    return steps.rate()


def at_rate(per_s, *, every_s=0.1, seconds=20.0):
    return [(n * every_s, n * every_s * per_s) for n in range(round(seconds / every_s) + 1)]


@given(
    per_s=st.floats(min_value=0.01, max_value=1e4),
    every_s=st.floats(min_value=0.05, max_value=5),
    begin_s=st.floats(min_value=0, max_value=100),
)
def test_a_steady_counter_gives_its_rate_whatever_the_sampling(per_s, every_s, begin_s):
    readings = [(begin_s + n * every_s, n * every_s * per_s) for n in range(120)]
    assert counted(readings).per_s == pytest.approx(per_s, rel=1e-6)


@given(st.lists(st.floats(min_value=0, max_value=20), max_size=40), st.integers(1, 9))
def test_a_rate_lies_among_the_slopes_of_the_points_or_there_is_none(jumps, every):
    readings, value = [], 0.0
    for n, jump in enumerate(jumps):
        value += jump
        readings.append((n / every, value))
    rate = slope(readings)
    steepest = max(jumps, default=0.0) * every
    assert rate is None or 0 < rate <= steepest * (1 + 1e-9)


def test_slow_first_steps_and_a_slow_end_do_not_count():
    steady = [(20 + at_s, 5 + steps) for at_s, steps in at_rate(10.0, seconds=100)]
    readings = [(0.0, 0), (10.0, 1), *steady, (122, 1006), (128, 1007)]
    assert counted(readings).per_s == pytest.approx(10.0, rel=0.01)


def test_pauses_for_evaluations_in_between_do_not_count():
    readings, now = [], 0.0
    for step in range(200):
        now += 5.0 if step % 50 == 49 else 0.1
        readings.append((now, step))
    assert counted(readings).per_s == pytest.approx(10.0, rel=0.02)


def test_reading_the_log_in_beats_does_not_round_the_rate():
    """Every 50 ms one step, or two, of 40 ms."""
    readings = [(n * 0.05, int(n * 0.05 / 0.04)) for n in range(400)]
    assert counted(readings).per_s == pytest.approx(25.0, rel=0.03)


@pytest.mark.parametrize(("first", "every", "most"), [(0, 1, 10), (1, 1, 10), (0, 10, 50)])
def test_a_counter_that_starts_anew_with_each_epoch_is_counted_on(first, every, most):
    """0..9 or 1..10 over and over, and every tenth of fifty."""
    readings = [(n * 0.1, first + n % most) for n in range(0, 3000, every)]
    assert counted(readings, "iter").per_s == pytest.approx(10.0, rel=0.02)


def test_the_finest_counter_that_says_enough_is_taken():
    steps = StepCounter()
    for n in range(100):
        steps.feed(n * 0.1, {"epoch": n // 50, "Iter": n, "loss": 2.0})
    assert steps.rate() == StepRate(per_s=pytest.approx(10.0), counter="iter")


def test_a_counter_that_appears_once_leaves_it_to_another():
    steps = StepCounter()
    steps.feed(0.0, {"step": 0})
    for n in range(50):
        steps.feed(n, {"epoch": n})
    assert steps.rate() == StepRate(per_s=pytest.approx(1.0), counter="epoch")


@pytest.mark.parametrize(
    "readings",
    [
        [],
        [(0, 0)],
        [(n * 0.01, n) for n in range(50)],  # half a second
        [(n * 10, n) for n in range(4)],  # four points
        [(n, 7) for n in range(50)],  # it stands still
    ],
)
def test_too_little_is_no_rate(readings):
    assert counted(readings) is None


def test_totals_and_rates_that_the_script_prints_are_not_steps():
    steps = StepCounter()
    for n in range(50):
        assert not steps.feed(n, {"num_steps": 900 + n, "tok/s": 10 * n, "it/s": n, "percent": n})
    assert steps.rate() is None


def test_a_long_run_takes_no_more_memory_and_keeps_its_rate():
    steps = StepCounter()
    for n in range(20_000):
        steps.feed(n * 0.5, {"step": 3 * n})
    assert steps.rate().per_s == pytest.approx(6.0)
    assert len(steps._series["step"].points) <= 257


def test_the_middle_leaves_out_a_tenth_of_the_time_at_each_end():
    points = [(float(n), 0.0) for n in range(101)]
    assert [middle(points)[0][0], middle(points)[-1][0]] == [10.0, 90.0]
    assert middle([]) == []


@pytest.mark.parametrize(
    "line",
    [
        "step 00953 (100.0%) | loss: 2.345678 | dt: 325ms | tok/sec: 1,612,345 | epoch: 1",
        "iter 953: loss 2.3457, time 325.11ms, mfu 39.80%",
        "global_step=953 loss=2.3",
        "Epoch 953/1000 - loss: 0.31",
    ],
)
def test_progress_lines_of_well_known_scripts_count(line):
    steps = StepCounter()
    assert steps.feed(0.0, parse_points(line))
    (series,) = [s for name, s in steps._series.items() if s.points[0][1] == 953]
    assert series
