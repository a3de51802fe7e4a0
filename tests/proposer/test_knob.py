"""Knobs: naming conventions, steering comments, and replacing literals in a text."""

import pytest

from proposer.knob import Hint, Knob, Range, is_constant, is_left_alone, read_hint, splice, unknown


def knob(name: str = "LR", source: str = "3e-4", start: int = 5, value: float = 3e-4) -> Knob:
    return Knob(name=name, path="train.py", value=value, source=source, start=start)


def test_only_the_literals_are_replaced() -> None:
    text = "LR = 3e-4  # keep\nWD = 0.1\n"
    literals = {knob(): "1.25e-3", knob("WD", "0.1", 23, 0.1): "0"}
    assert splice(text, literals) == "LR = 1.25e-3  # keep\nWD = 0\n"


def test_a_knob_of_another_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.py is not the text that LR was read from"):
        splice("# LR = 3e-4\n", {knob(): "1e-3"})


@pytest.mark.parametrize("name", ["LR", "D", "ADAM_BETAS", "N_LAYER2"])
def test_capitals_are_constants(name: str) -> None:
    assert is_constant(name, Hint())


@pytest.mark.parametrize("name", ["lr", "Lr", "_LR", "__all__", "__VERSION__"])
def test_other_names_need_a_comment(name: str) -> None:
    assert not is_constant(name, Hint())


def test_a_comment_makes_any_name_but_a_dunder_a_constant() -> None:
    hint = Hint(range=Range(low=0, high=1, log=False))
    assert is_constant("lr", hint)
    assert not is_constant("__lr__", hint)


@pytest.mark.parametrize(
    "name", ["SEED", "RANDOM_SEED", "TIME_BUDGET", "BUDGET_S", "EVAL_ITERS", "H100_PEAK_FLOPS"]
)
def test_seeds_budgets_evaluation_and_reporting_are_left_alone(name: str) -> None:
    assert is_left_alone(name)


@pytest.mark.parametrize("name", ["LR", "SEEDLING_RATE", "LATEST_FRAC", "train.py:BATCH_SIZE"])
def test_names_that_only_contain_such_letters_are_not_left_alone(name: str) -> None:
    assert not is_left_alone(name)


@pytest.mark.parametrize(
    ("comment", "value", "expected"),
    [
        ("# choices: a, b", "a", Hint(choices=("a", "b"))),
        ("# kind; choices: 'a', \"b\",", "a", Hint(choices=("a", "b"))),
        ("# choices: 4, 8, 12", 8, Hint(choices=(4, 8, 12))),
        ("# choices: see below", "a", Hint()),
        ("# choices: deep, wide", 8, Hint()),
        ("# range: 1e-4..1e-2 log", 3e-4, Hint(range=Range(low=1e-4, high=1e-2, log=True))),
        ("# range: 4 .. 16, in blocks", 8, Hint(range=Range(low=4, high=16, log=False))),
        ("# range: 1..2", "a", Hint()),
        ("# range: 1..2", True, Hint()),
        ("# range: 2..1", 1, Hint()),
        ("# range: 0..1 log", 0.5, Hint()),
        ("# range: low..high", 1, Hint()),
        ("# range: 0.5..2.0", 1, Hint()),
        ("# range: 0.5..8 log", 1, Hint()),
        ("# range: 1.0..2.0", 1, Hint(range=Range(low=1, high=2, log=False))),
        ("# range: -1e308..1e308", 1.0, Hint()),
        ("# range: 0..inf", 1, Hint()),
        ("# just words", 1, Hint()),
        ("", 1, Hint()),
    ],
)
def test_a_comment_steers_where_it_fits_the_value(
    comment: str, value: float | str, expected: Hint
) -> None:
    assert read_hint(comment, value) == expected


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    assert unknown("MATRX_LR", ["MATRIX_LR", "DEPTH"]) == (
        "no constant MATRX_LR; did you mean MATRIX_LR?"
    )
    assert "did you mean LR?" in unknown("lr", ["LR"])


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    assert unknown("XYZ", ["LR", "DEPTH"]) == "no constant XYZ; there are DEPTH, LR"
    assert unknown("XYZ", []) == "no constant XYZ; there are none"


def test_complaints_name_the_constant_and_its_present_literal() -> None:
    with pytest.raises(ValueError, match="LR is 3e-4 now, and 'fast' is not a number"):
        knob().parse("fast")
