"""Marks stand beside the values that they are about."""

import pytest

from eval.conditions import Mark
from eval.score import Score


def test_a_score_has_marks_for_each_value_or_for_none() -> None:
    assert Score(values=(1.0, 2.0), device_class="cpu").marks == ()
    marks = ((), (Mark.SLOW,))
    assert Score(values=(1.0, 2.0), device_class="cpu", marks=marks).marks == marks
    with pytest.raises(ValueError, match="1 marks for 2 values"):
        Score(values=(1.0, 2.0), device_class="cpu", marks=((),))
