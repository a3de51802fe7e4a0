"""Which scores look too good, and which only unusual."""

from dataclasses import replace

import pytest

from eval.metric import Goal, Metric, MetricReader
from eval.suspicion import Conduct, Run, implausible, suspicions

METRIC = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
KARPATHY = Conduct(wall_s=326.0, value_at_s=325.0)
"""His published run: 300 s of training, then an evaluation, then the one line that counts."""


def run(value: float = 0.9, device_class: str = "H100", **conduct: object) -> Run:
    return Run(value=value, device_class=device_class, conduct=replace(KARPATHY, **conduct))


def asked(run_: Run, *precedents: Run, metric: Metric = METRIC) -> tuple[str, ...]:
    return suspicions(run_, precedents or (run(),), metric=metric, budget_s=300.0)


def test_a_run_like_the_baseline_is_not_suspect() -> None:
    assert asked(run()) == ()
    assert asked(run(wall_s=180.0, value_at_s=179.0)) == (), "an evaluation that was made faster"
    assert asked(run(wall_s=590.0, value_at_s=300.0)) == (), "a checkpoint written afterwards"


def test_nothing_is_said_where_nothing_is_known() -> None:
    nothing = Run(value=0.9, device_class="H100", conduct=Conduct())
    assert asked(nothing) == ()
    assert asked(run(), nothing) == ()
    assert suspicions(run(), (), metric=METRIC, budget_s=300.0) == ()


# --- the clock -----------------------------------------------------------------------------------


def test_a_value_printed_before_training_is_suspect() -> None:
    assert asked(run(value_at_s=2.0)) == (
        "its value was printed 2.0 s into a run of 326.0 s, before anything can have been trained",
    )


@pytest.mark.parametrize(("value_at_s", "usual_s"), [(33.0, 325.0), (20.0, 55.0), (2.0, 5.0)])
def test_a_value_that_comes_about_when_it_usually_does_is_not(
    value_at_s: float, usual_s: float
) -> None:
    assert asked(run(value_at_s=value_at_s), run(value_at_s=usual_s)) == ()


def test_a_value_behind_a_long_start_with_no_step_before_it_is_suspect() -> None:
    usual = run(wall_s=32.0, first_step_s=15.0, value_at_s=30.0)
    at_once = run(wall_s=17.0, value_at_s=16.0)
    assert asked(at_once, usual) == (
        "its value was printed 16.0 s into the run, with no step counted before",
    )
    assert asked(run(wall_s=17.0, first_step_s=15.0, value_at_s=16.0), usual) == ()
    assert asked(run(wall_s=32.0, value_at_s=30.0), usual) == (), "it lost its progress lines"
    assert asked(at_once, usual, at_once) == (), "a habit"


def test_the_habit_of_what_it_was_made_on_is_as_good_as_the_baselines() -> None:
    assert asked(run(value_at_s=2.0), run(), run(value_at_s=4.0)) == ()


@pytest.mark.parametrize(
    ("wall_s", "usual_s", "is_suspect"),
    [
        (140.0, 326.0, True),  # the budget is 300 s: it trains by the clock
        (160.0, 326.0, False),
        (160.0, 900.0, False),  # on a busy machine, as the baseline was
        (140.0, 900.0, True),
        (170.0, 1800.0, True),
        (25.0, 230.0, False),  # it does not: ten times faster is a lot, and not impossible
        (22.0, 230.0, True),
        (0.01, 0.9, False),  # of such runs the clock says nothing
        (0.01, 326.0, True),
    ],
)
def test_a_run_that_took_no_time_is_suspect(
    wall_s: float, usual_s: float, is_suspect: bool
) -> None:
    found = asked(run(wall_s=wall_s, value_at_s=wall_s), run(wall_s=usual_s, value_at_s=usual_s))
    words = (f"it took {wall_s:.1f} s, where {usual_s:.1f} s is usual",)
    assert found == (words if is_suspect else ())


def test_times_are_compared_on_one_device_class() -> None:
    fast = run(wall_s=20.0, value_at_s=20.0)
    assert asked(fast, run(device_class="GTX 1080")) == ()
    assert asked(fast, run(device_class="GTX 1080"), run()) != ()


def test_a_study_that_has_become_fast_stays_unsuspected() -> None:
    assert asked(run(wall_s=20.0, value_at_s=20.0), run(), run(wall_s=30.0, value_at_s=30.0)) == ()


# --- the log -------------------------------------------------------------------------------------


def test_several_values_at_the_end_are_suspect_unless_they_are_usual() -> None:
    assert asked(run(final_values=2)) == ("it printed 2 different values at its end",)
    assert asked(run(final_values=2), run(final_values=3)) == ()


def printed(
    *values: tuple[float, str], wall_s: float = 326.0, trained_until_s: float | None = None
) -> Run:
    """Return a run whose script printed values: (seconds from the start, text)."""
    reader = MetricReader(METRIC)
    for at_s, text in values:
        reader.feed(f"val_bpb: {text}", at_s)
    return run(
        wall_s=wall_s,
        value_at_s=reader.sightings.value_at_s,
        final_values=reader.sightings.final_values(trained_until_s),
    )


def test_a_value_was_there_when_it_was_printed_last() -> None:
    assert printed().conduct.value_at_s is None
    assert printed((1.0, "0.5"), (2.0, "0.9"), (300.0, "0.5")).conduct.value_at_s == 300.0
    assert printed((300.0, "9.9"), (301.0, "0.5")).conduct.value_at_s == 301.0


def test_a_coarse_metric_that_converges_in_the_first_of_many_epochs_is_not_suspect() -> None:
    """Accuracy with two digits, where the incumbent needed 21 epochs of 30 for its own."""
    epochs = [10.0 * epoch for epoch in range(1, 31)]
    usual = printed(*((at_s, "0.96" if at_s < 210 else "0.97") for at_s in epochs), wall_s=301.0)
    assert asked(printed(*((at_s, "0.98") for at_s in epochs), wall_s=301.0), usual) == ()


def test_a_value_printed_before_training_and_never_again_is_suspect_whatever_came_first() -> None:
    assert asked(printed((1.0, "0.9"), (5.0, "0.1")), printed((325.0, "0.9"))) == (
        "its value was printed 5.0 s into a run of 326.0 s, before anything can have been trained",
    )


@pytest.mark.parametrize(
    ("values", "trained_until_s", "count"),
    [
        ([], None, 0),
        ([], 10.0, 0),
        ([(10.0, "3"), (20.0, "2"), (30.0, "1")], None, 1),
        ([(10.0, "3"), (29.5, "2"), (30.0, "1"), (30.0, "1")], None, 2),
        ([(10.0, "3"), (29.5, "2"), (30.0, "1")], 29.8, 2),  # the last second counts in any case
        ([(10.0, "3"), (29.5, "2"), (30.0, "1")], 300.0, 2),
        ([(10.0, "3"), (28.5, "2"), (30.0, "1")], 29.0, 1),
        ([(10.0, "3"), (28.5, "2"), (30.0, "1")], 28.0, 2),  # without any training between
        ([(10.0, "3"), (28.5, "2"), (30.0, "2")], 28.0, 1),
    ],
)
def test_final_values_are_those_after_training_and_of_the_last_second(
    values: list[tuple[float, str]], trained_until_s: float | None, count: int
) -> None:
    assert printed(*values, trained_until_s=trained_until_s).conduct.final_values == count


def test_a_wished_value_is_suspect_however_long_it_waits_behind_the_real_one() -> None:
    usual = printed((290.0, "0.95"), (325.0, "0.9"), trained_until_s=300.0)
    gamed = printed((310.0, "0.9"), (325.0, "0.1"), trained_until_s=300.0)
    assert asked(gamed, usual) == ("it printed 2 different values at its end",)
    assert asked(gamed, gamed) == ()


@pytest.mark.parametrize("trained_until_s", [None, 20.0])
def test_values_that_are_repeated_do_not_drown_the_one_before_them(
    trained_until_s: float | None,
) -> None:
    repeated = [(30.1, "0.1")] * 1000
    found = printed((30.0, "0.9"), *repeated, trained_until_s=trained_until_s)
    assert found.conduct.final_values == 2


def test_a_flood_of_values_is_forgotten_rather_than_kept() -> None:
    reader = MetricReader(METRIC)
    for number in range(10_000):
        reader.feed(f"val_bpb: {number}", float(number))
    assert reader.sightings.value_at_s == 9999.0
    assert reader.sightings.final_values(None) == 2
    assert reader.sightings.final_values(0.0) == len(reader.sightings._at_s) == 256


# --- files and values ----------------------------------------------------------------------------


def test_a_frozen_file_that_changed_is_suspect_unless_that_is_usual() -> None:
    melted = run(frozen=("prepare.py was changed", "results.json was changed"))
    habit = run(frozen=("results.json was changed",))
    assert asked(melted, habit) == ("prepare.py was changed while the trial ran",)
    assert asked(habit, habit) == ()


@pytest.mark.parametrize(
    ("value", "is_plausible"), [(0.5, True), (3.0, True), (0.4999, False), (3.01, False)]
)
def test_a_value_outside_what_can_be_is_suspect(value: float, is_plausible: bool) -> None:
    metric = replace(METRIC, plausible=(0.5, 3.0))
    words = (f"{value:g} lies outside [metric] plausible = [0.5, 3]",)
    assert implausible(value, metric) == (() if is_plausible else words)
    assert asked(run(value), metric=metric) == (() if is_plausible else words)
    assert implausible(value, METRIC) == ()


def test_all_reasons_are_given() -> None:
    metric = replace(METRIC, plausible=(0.5, 3.0))
    conduct = {"frozen": ("prepare.py was changed",), "final_values": 2, "wall_s": 20.0}
    assert len(asked(run(0.0, value_at_s=0.1, **conduct), metric=metric)) == 5
