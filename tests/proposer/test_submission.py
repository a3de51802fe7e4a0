"""What `--set` and `--grid` accept, and the proposals they make."""

import pytest

from proposer.submission import apply_settings, leave_out_present, parse_grid, parse_settings

FILES = {"train.py": 'LR = 3e-4\nDEPTH = 8\nMODE = "a=b"\nSEED = 1\n', "run.sh": "BATCH=32\n"}


def test_settings_are_names_and_values() -> None:
    texts = ["LR=0.03", " DEPTH = 10 ", "MODE=a=c"]
    assert parse_settings(texts) == {"LR": "0.03", "DEPTH": "10", "MODE": "a=c"}


@pytest.mark.parametrize("text", ["LR", "=3", "LR=", "LR= ", ""])
def test_a_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form NAME=VALUE"):
        parse_settings([text])


def test_a_name_that_is_set_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="LR is set twice"):
        parse_settings(["LR=1", "LR=2"])


def test_a_grid_is_every_combination_in_a_fixed_order() -> None:
    assert parse_grid(["LR=0.01, 0.03", "DEPTH=6,8"]) == [
        {"LR": "0.01", "DEPTH": "6"},
        {"LR": "0.01", "DEPTH": "8"},
        {"LR": "0.03", "DEPTH": "6"},
        {"LR": "0.03", "DEPTH": "8"},
    ]
    assert parse_grid([]) == []


@pytest.mark.parametrize("text", ["LR=1,", "LR=1,,2", "LR=1,1"])
def test_an_empty_or_repeated_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has an empty or a repeated value"):
        parse_grid([text])


def test_a_grid_of_millions_is_refused_before_it_is_made() -> None:
    axis = ",".join(map(str, range(10)))
    assert len(parse_grid([f"{name}={axis}" for name in "ABCD"])) == 10_000
    with pytest.raises(ValueError, match="makes 10,000,000,000 experiments, of at most 10,000"):
        parse_grid([f"{name}={axis}" for name in "ABCDEFGHIJ"])


def test_settings_become_a_proposal_in_the_style_of_the_files() -> None:
    proposal = apply_settings(FILES, {"LR": "0.03", "DEPTH": "10", "BATCH": "64", "SEED": "2"})
    assert proposal.edits == {
        "train.py": 'LR = 3e-2\nDEPTH = 10\nMODE = "a=b"\nSEED = 2\n',
        "run.sh": "BATCH=64\n",
    }
    assert proposal.hypothesis == "LR 3e-4 -> 3e-2, DEPTH 8 -> 10, SEED 1 -> 2, BATCH 32 -> 64"
    assert proposal.parameters == {
        "LR": 0.03,
        "DEPTH": 10,
        "MODE": "a=b",
        "SEED": 2,
        "BATCH": 64,
    }


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"LRR": "1"}, r"no constant LRR; did you mean LR\?"),
        ({"DEPTH": "8.5"}, "DEPTH is 8 now, and '8.5' is not a whole number"),
        ({"LR": "fast"}, "LR is 3e-4 now, and 'fast' is not a number"),
        ({"LR": "0.0003", "DEPTH": "8"}, "changes nothing: LR is 3e-4, DEPTH is 8"),
        ({}, "changes nothing"),
    ],
)
def test_what_cannot_be_set_is_refused(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        apply_settings(FILES, settings)


def test_a_value_that_is_there_already_may_stand_beside_one_that_is_not() -> None:
    proposal = apply_settings(FILES, {"LR": "1e-3", "DEPTH": "8"})
    assert proposal.hypothesis == "LR 3e-4 -> 1e-3"


def test_a_grid_leaves_out_only_the_point_that_is_there_already() -> None:
    points = leave_out_present(FILES, parse_grid(["LR=3e-4,1e-3", "DEPTH=6,8"]))
    assert points == [
        {"LR": "3e-4", "DEPTH": "6"},
        {"LR": "1e-3", "DEPTH": "6"},
        {"LR": "1e-3", "DEPTH": "8"},
    ]


def test_a_grid_over_an_unknown_name_has_no_points_at_all() -> None:
    with pytest.raises(ValueError, match="no constant DEPHT; did you mean DEPTH"):
        leave_out_present(FILES, parse_grid(["LR=1,2", "DEPHT=6,8"]))
