"""Means, intervals and speed-ups over seeds."""

from statistics import stdev

import pytest
from scipy.stats import t as student

from cluster.simulation.course import Course
from cluster.simulation.setup import Step
from cluster.simulation.summary import Estimate, curve, speedup, summarise
from cluster.state.slot_time import SlotTime


def course(*points: tuple[float, float], false: int = 0) -> Course:
    """A course through these (hours, improvement); the last is its end."""
    steps = [
        Step(at_s=3600 * h, slot_seconds=3600 * h, true=v, claimed=v + 1, is_false=n < false)
        for n, (h, v) in enumerate(points)
    ]
    time = SlotTime(search=70.0, replicates=20.0, merges=10.0)
    return Course(
        steps=tuple(steps), experiments=10, passed_over=2, stopped=1, improving=4, time=time
    )


@pytest.mark.parametrize("n", [4, 10, 100])
def test_an_interval_is_students(n: int) -> None:
    values = [float(v % 7) for v in range(n)]
    found = Estimate.of(values)
    half = student.ppf(0.975, n - 1) * stdev(values) / n**0.5
    assert found.high - found.mean == pytest.approx(half, rel=0.02)
    assert found.mean - found.low == pytest.approx(half, rel=0.02)
    assert Estimate.of([3.0]) == Estimate(mean=3.0, low=3.0, high=3.0)


def test_a_curve_is_a_staircase_from_nothing() -> None:
    found = curve([course((1, 0.0), (2, 5.0), (8, 5.0))], [0.0, 5400.0, 7200.0, 9e9])
    assert [estimate.mean for estimate in found] == [0.0, 0.0, 5.0, 5.0]


def test_a_speedup_is_how_many_times_sooner() -> None:
    fast = [course((0.1, 0.0), (2, 5.0), (8, 9.0))] * 3
    assert speedup(fast, 5.0, 8.0).mean == pytest.approx(4)
    assert speedup(fast, 99.0, 8.0).mean is None


def test_a_summary_counts_over_all_courses() -> None:
    found = summarise([course((0, 0.0), (1, 2.0), (8, 2.0), false=1)] * 2, [course((8, 1.0))], 8.0)
    assert found.true.mean == 2.0
    assert found.gap.mean == 1.0
    assert found.false_percent == 100.0
    assert found.missed_percent == 50.0
    assert found.stopped_percent == 25.0
    assert (found.replicates_percent, found.merges_percent) == (20.0, 10.0)
    assert found.speedup.mean == pytest.approx(8)
