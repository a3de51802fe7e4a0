"""What the runs of one tree say together; marks stand beside the values that they are about."""

import math

import pytest

from eval.conditions import Mark
from eval.score import Score


def test_a_score_has_marks_for_each_value_or_for_none() -> None:
    assert Score(values=(1.0, 2.0), device_class="cpu").marks == ()
    marks = ((), (Mark.SLOW,))
    assert Score(values=(1.0, 2.0), device_class="cpu", marks=marks).marks == marks
    with pytest.raises(ValueError, match="1 marks for 2 values"):
        Score(values=(1.0, 2.0), device_class="cpu", marks=((),))


def test_a_score_is_the_mean_of_its_runs_with_its_standard_error() -> None:
    score = Score(values=(2.0, 4.0, 4.0, 6.0), device_class="cpu")
    assert (score.mean, score.n) == (4.0, 4)
    assert score.standard_error == pytest.approx(math.sqrt(8 / 3) / 2)  # of the sample, over 2


def test_one_run_has_no_standard_error() -> None:
    assert math.isnan(Score(values=(2.0,), device_class="cpu").standard_error)
