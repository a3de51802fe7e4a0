"""What a log tells of a run's time, and what it leaves open."""

import pytest

from eval.metric import Goal, Metric, MetricReader
from trainer.run_stages import RunStages

GO = 1000.0


def told(*chunks, ended_at, go=GO):
    """Return the stages and the rate of a run that printed `chunks`: (seconds after GO, text)."""
    stages = RunStages(go)
    for at_s, text in chunks:
        stages.feed(text.encode(), go + at_s)
    stages.close()
    return stages.seconds(go + ended_at), stages.rate()


def steps(begin_s, count, every_s=0.5, form="step {} | loss: 2.0\n"):
    return [(begin_s + n * every_s, form.format(n)) for n in range(count)]


@pytest.mark.parametrize(
    "form", ["step {} | loss: 2.0\n", "\rstep {} (1.0%) | loss: 2.0    ", "iter {}: loss 2.0\n"]
)
def test_a_run_with_progress_has_all_stages(form):
    chunks = [(3.0, "model: 10 M parameters\n"), *steps(11.0, 41, form=form), (31.1, "\n")]
    stages, rate = told(*chunks, (40.0, "val_bpb: 0.99\n"), ended_at=41.0)
    assert stages == pytest.approx(
        {"start": 3.0, "prepare": 8.0, "steps": 20.0, "evaluate": 10.0}, abs=0.6
    )
    assert sum(stages.values()) == pytest.approx(41.0)
    assert rate.per_s == pytest.approx(2.0)


def test_lines_without_steps_do_not_end_the_training():
    chunks = [
        (at_s + more, text)
        for at_s, line in steps(1.0, 9)
        for more, text in ((0.0, line), (0.2, "saved a checkpoint\n"))
    ]
    stages, _ = told(*chunks, ended_at=8.0)
    assert stages == pytest.approx({"start": 1.0, "prepare": 0.0, "steps": 4.0, "evaluate": 3.0})


@pytest.mark.parametrize("chunks", [[(2.0, "hello\n")], [(2.0, "step 1\n")], [(2.0, "step 1")]])
def test_without_two_moments_of_progress_only_the_start_is_known(chunks):
    stages, rate = told(*chunks, ended_at=9.0)
    assert stages == {"start": 2.0}
    assert rate is None


def test_a_silent_run_says_nothing():
    assert told(ended_at=9.0) == ({}, None)
    assert told((1.0, ""), ended_at=9.0) == ({}, None)


def test_the_last_step_is_timed_by_its_own_arrival_and_not_by_what_follows():
    """The line of step 8 is ended only when the evaluation, ten seconds later, prints something."""
    chunks = steps(1.0, 9, form="\rstep {} | loss: 2.0")
    stages, _ = told(*chunks, (5.02, " "), (15.0, "\nval_bpb: 0.99\n"), ended_at=15.0)
    assert stages["evaluate"] == pytest.approx(10.0, abs=0.05)


def final_values(*chunks):
    """Return how many values at the end a supervisor would count in whole lines."""
    stages = RunStages(GO)
    reader = MetricReader(Metric(name="v", goal=Goal.MINIMIZE, pattern=r"\bv: (\S+)"))
    for at_s, text in chunks:
        stages.feed(text.encode(), GO + at_s)
        for line in text.splitlines():
            reader.feed(line, GO + at_s - GO)
    stages.close()
    return reader.sightings.final_values(stages.trained_until_s())


def test_training_is_over_with_the_last_line_that_counts_steps():
    stages = RunStages(GO)
    for at_s, text in [*steps(1.0, 9), (5.2, "evaluating\n"), (9.0, "v: 1\n")]:
        stages.feed(text.encode(), GO + at_s)
    stages.close()
    assert stages.trained_until_s() == pytest.approx(5.1)
    assert stages.first_step_s() == pytest.approx(1.0)


@pytest.mark.parametrize("chunks", [[], [(2.0, "hello\n")], [(2.0, "step 1 |\nstep 2 |\n")]])
def test_without_two_moments_of_progress_nothing_tells_when_training_was_over(chunks):
    stages = RunStages(GO)
    for at_s, text in chunks:
        stages.feed(text.encode(), GO + at_s)
    stages.close()
    assert stages.trained_until_s() is None
    assert stages.first_step_s() is None


def test_two_values_with_no_step_between_them_are_two_however_far_apart():
    assert final_values(*steps(1.0, 9), (8.0, "v: 0.9\n"), (9.5, "v: 0.1\n")) == 2
    assert final_values(*steps(1.0, 9), (8.0, "v: 0.9\n"), (90.0, "v: 0.1\n")) == 2
    assert final_values((1.0, "hello\n"), (8.0, "v: 0.9\n"), (9.5, "v: 0.1\n")) == 1


@pytest.mark.parametrize(
    "form", ["step {0} v: 0.{0}\n", "v: 0.{0} | step {0} |\n", "step {0} |\nv: 0.{0}\n"]
)
def test_values_beside_the_steps_that_were_made_for_them_are_one_at_the_end(form):
    epochs = steps(1.0, 9, every_s=2.0, form=form)
    assert final_values(*epochs) == 1
    assert final_values(*epochs, (30.0, "v: 0.8\n")) == 1, "the last one, evaluated again"
    assert final_values(*epochs, (30.0, "v: 0.79\n")) == 1, "and printed otherwise"


@pytest.mark.parametrize("later_s", [0.0, 0.001, 0.049, 0.05, 0.09])
@pytest.mark.parametrize("phase_s", [0.0, 0.02, 0.049])
def test_a_value_printed_with_its_step_is_not_of_the_end_wherever_batches_fall(later_s, phase_s):
    """A supervisor that is quick reads the two lines of one moment apart, or in two batches."""
    chunks = []
    for n in range(5):
        at_s = 1.0 + 2.0 * n
        chunks += [
            (at_s, "loading\n"),
            (at_s + phase_s, f"step {n} |\n"),
            (at_s + phase_s + later_s, f"v: 0.{9 - n}\n"),
        ]
    assert final_values(*chunks, (20.0, "v: 0.44\n")) == 1


def test_a_step_that_is_seen_again_is_no_new_epoch():
    chunks = [(n * 0.5, f"step {n} |\nstep {n + 1} | loss") for n in range(0, 40, 2)]
    _, rate = told(*chunks, ended_at=30.0)
    assert rate.per_s == pytest.approx(2.0, rel=0.01)


def test_half_a_line_is_not_read_for_a_smaller_number():
    """A chunk may end within a number; "step 12" of "step 123" would look like a new epoch."""
    chunks = []
    for n in range(100, 160):
        chunks += [(n * 0.1, f"step {n // 10}"), (n * 0.1 + 0.06, f"{n % 10} | loss: 1\n")]
    _, rate = told(*chunks, ended_at=20.0)
    assert rate.per_s == pytest.approx(10.0, rel=0.01)


def test_a_flood_is_searched_in_bounded_time_and_memory(monkeypatch):
    looked = []
    monkeypatch.setattr("trainer.run_stages.parse_points", lambda line: looked.append(line) or {})
    stages = RunStages(0.0)
    for n in range(1000):
        stages.feed(b"x\n" * (1 << 15), n * 0.001)
    stages.feed(b"y" * (1 << 20), 1.0)
    assert len(looked) <= 33 * (1.0 / 0.05 + 2)
    assert len(stages._batch) <= 4096


def test_what_is_no_text_harms_nothing():
    stages, _ = told((1.0, "\x1b[31m\x00\ud800".encode(errors="replace").decode()), ended_at=2.0)
    assert stages == {"start": 1.0}
