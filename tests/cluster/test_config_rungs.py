"""[[rung]] in the configuration."""

from pathlib import Path

import pytest

from tests.cluster.config_text import LEAST, problems, read

RUNG = "[[rung]]\nbudget_s = 30\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LEAST + RUNG + RUNG, "[[rung]] budget_s must rise from rung to rung: 30 follows 30"),
        (LEAST + "budget_s = 30\n" + RUNG, "[[rung]] budget_s (30) must be less than [trial] budg"),
        (LEAST + "smoke_s = 30\n" + RUNG, "[trial] smoke_s (30) must be less than the budget_s of"),
        (LEAST + RUNG + "keep = 1.0", "[[rung]] 1 keep: must be below 1, not 1"),
        (LEAST + RUNG + "keep = 0", "[[rung]] 1 keep: must be above 0, not 0"),
        (LEAST + "[[rung]]\nkeep = 0.5", "[[rung]] 1 budget_s: is missing, e.g. budget_s = 30"),
        (LEAST + "[rung]\nbudget_s = 30", "[[rung]]: must be written [[rung]], its keys below"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(expected)


def test_rungs_are_read_in_their_order(tmp_path: Path) -> None:
    found = read(tmp_path, LEAST + RUNG + "[[rung]]\nbudget_s = 100\nkeep = 0.5\n").rungs()
    assert [(step.budget_s, step.keep) for step in found] == [(30.0, 0.33), (100.0, 0.5)]
