"""Constants of several files together, and the proposals that change them."""

import pytest

from proposer.constants import change, merged_values, read_constants, turned_constants
from proposer.proposal import Scalar

FILES = {
    "train.py": "LR = 3e-4  # peak\nDEPTH = 8\n",
    "run.sh": "export BATCH=32\n",
    ".env": "DROPOUT=0.1\n",
    "conf/prod.env": "WD=0.2\n",
    "notes.md": "LR = 1\n",
}


def test_each_kind_of_file_is_read_by_its_own_rules() -> None:
    assert {name: knob.value for name, knob in read_constants(FILES).items()} == {
        "LR": 3e-4,
        "DEPTH": 8,
        "BATCH": 32,
        "DROPOUT": 0.1,
        "WD": 0.2,
    }


def test_a_name_in_two_files_is_told_apart_by_its_path() -> None:
    knobs = read_constants({"a.py": "LR = 1.0\nX = 1\n", "b.py": "LR = 2.0\n"})
    assert {name: knob.value for name, knob in knobs.items()} == {
        "a.py:LR": 1.0,
        "X": 1,
        "b.py:LR": 2.0,
    }


def test_a_proposal_edits_the_files_it_must_and_says_what_it_does() -> None:
    knobs = read_constants(FILES)
    proposal = change(FILES, knobs, {"LR": 1e-3, "DEPTH": 10, "BATCH": 64, "WD": 0.2})
    assert proposal.edits == {
        "train.py": "LR = 1e-3  # peak\nDEPTH = 10\n",
        "run.sh": "export BATCH=64\n",
    }
    assert proposal.hypothesis == "LR 3e-4 -> 1e-3, DEPTH 8 -> 10, BATCH 32 -> 64"
    assert proposal.parameters == {
        "LR": 1e-3,
        "DEPTH": 10,
        "BATCH": 64,
        "DROPOUT": 0.1,
        "WD": 0.2,
    }


def test_a_change_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="changes nothing: LR is 3e-4"):
        change(FILES, read_constants(FILES), {"LR": 3e-4})


def test_a_word_that_a_shell_file_cannot_hold_is_refused_by_name() -> None:
    files = {"run.sh": "OPT=adam\n"}
    with pytest.raises(ValueError, match=r"OPT: '\$HOME' cannot stand in a shell assignment"):
        change(files, read_constants(files), {"OPT": "$HOME"})


def test_a_clean_merge_has_the_values_that_either_side_changed() -> None:
    before = {"train.py": "LR = 0.1\n\n\n\nDEPTH = 4\n\n\n\nGONE = 1\n\n\n\nWD = 0.5\n"}
    after = {"train.py": "LR = 0.2\n\n\n\nDEPTH = 4\n\n\n\nWD = 0.5\n\n\n\nNEW = 7\n"}
    changed = {"LR": 0.1, "DEPTH": 8, "GONE": 1, "WD": 0.5}
    # NEW is not among what the proposal named.
    assert merged_values(changed, before, after) == {"LR": 0.2, "DEPTH": 8, "WD": 0.5}
    assert merged_values({"NEW": 9}, before, after) == {"NEW": 9}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("LR = 3e-4\nD = 8\n", "LR = 1e-3\nD = 8\n", {"LR": 1e-3, "D": 8}),
        ("LR = 3e-4\nD = 8\n", "LR = 0.001\nD = 2**4\n", {"LR": 1e-3, "D": 16}),
        ("LR = 3e-4\n", "LR = 3e-4\n", {}),
        ("LR = 3e-4\n", "LR = 1e-3  # better\n", {}),
        ("LR = 3e-4\n", "LR = 1e-3\nD = 8\n", {}),
        ("LR = 3e-4\nf(LR)\n", "LR = 1e-3\ng(LR)\n", {}),
    ],
)
def test_a_patch_that_turns_constants_alone_is_told_from_others(
    before: str, after: str, expected: dict[str, Scalar]
) -> None:
    assert turned_constants({"train.py": before}, {"train.py": after}) == expected


def test_files_that_come_or_go_are_more_than_constants() -> None:
    assert turned_constants(FILES, {**FILES, "new.py": "X = 1\n"}) == {}
