"""Edits apply as a whole or not at all, and what is wrong with one is said exactly."""

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposer.edits import Edit, EditProblem, apply_edits
from proposer.hunks import unified
from proposer.likeness import twin
from proposer.syntax import digest
from tests.proposer.study import TRAIN, past

FILES = {"train.py": TRAIN, "model.py": "WIDTH = 8   \nWIDTH_2 = 8\n"}


def test_all_forms_and_several_files_apply_one_after_the_other() -> None:
    diff = "@@ -99,3 +99,3 @@\n LR = 0.1\n-DEPTH = 4\n+DEPTH = 8\n"
    edits = [
        Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2"),
        Edit(path="train.py", diff=diff.replace("LR = 0.1", "LR = 0.2")),
        Edit(path="model.py", content="WIDTH = 16\n"),
    ]
    changed = apply_edits(FILES, edits)
    assert changed["train.py"] == TRAIN.replace("0.1", "0.2").replace("DEPTH = 4", "DEPTH = 8")
    assert changed["model.py"] == "WIDTH = 16\n"


def test_only_white_space_at_the_ends_of_lines_may_differ() -> None:
    edit = Edit(path="model.py", search="WIDTH = 8\nWIDTH_2 = 8", replace="WIDTH = 9")
    assert apply_edits(FILES, [edit]) == {"model.py": "WIDTH = 9\n"}
    with pytest.raises(EditProblem, match="is not there"):
        apply_edits(FILES, [Edit(path="model.py", search="WIDTH  = 8", replace="")])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (Edit(path="prepare.py", content="x"), "prepare.py may not be changed; only model.py"),
        (Edit(path="train.py", search="LR", replace="X"), "stands there 2 times; quote more"),
        (Edit(path="train.py", search="LR = 9", replace="X"), "'LR = 9' is not there"),
        (
            Edit(path="train.py", search="LR = 0.1\nDEPTH = 5", replace="X"),
            "its first line is line 3, and what follows there differs",
        ),
        (Edit(path="train.py", diff="LR = 0.2\n"), "no hunk that begins with @@"),
        (Edit(path="train.py", diff="@@ -1 +1 @@\n-nothing\n+x\n"), "hunk 1 of the diff does not"),
        (Edit(path="train.py"), "needs search, diff or content"),
        (
            Edit(path="train.py", search="LR = 0.1", content="LR = 1\n"),
            "an edit has one form, and this one search and content",
        ),
        (Edit(path="train.py", content=TRAIN), "change nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_is_named_and_nothing_is_applied(edit: Edit, reason: str) -> None:
    good = Edit(path="model.py", content="WIDTH = 1\n")
    edits = [edit] if "nothing" in reason else [good, edit]
    with pytest.raises(EditProblem) as found:
        apply_edits(FILES, edits)
    assert reason in str(found.value)


def test_places_that_overlap_are_ambiguous() -> None:
    edit = Edit(path="f", search="x += 1\nx += 1\n", replace="x += 2\n")
    with pytest.raises(EditProblem, match="stands there 2 times"):
        apply_edits({"f": "x += 1\n" * 3}, [edit])


def test_an_empty_file_beside_another_form_is_no_file() -> None:
    """Models fill in every key of a strict tool, with the empty text where null was meant."""
    edit = Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2", content="")
    assert apply_edits(FILES, [edit]) == {"train.py": TRAIN.replace("0.1", "0.2")}


@given(before=st.lists(st.sampled_from("abc"), min_size=1, max_size=12), data=st.data())
def test_a_diff_of_git_s_form_applies_wherever_it_is_unambiguous(before, data) -> None:
    after = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
    old, new = "\n".join(before) + "\n", "\n".join(after) + "\n"
    patch = unified({"f": old}, {"f": new})
    hunks = patch.count("@@ -")
    if hunks != 1:
        return  # of several, a later one may have become ambiguous
    assert apply_edits({"f": old}, [Edit(path="f", diff=patch)]) == {"f": new}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_that_a_diff_does_not_change_stay_as_they_are(end: str) -> None:
    text = end.join(['PAGE = "\u2028"  ', "\x0c", "LR = 0.1", "x = 1\t", "last = 1"])
    diff = '@@ -1,4 +1,4 @@\n PAGE = "\u2028"\n \x0c\n-LR = 0.1\n+LR = 0.2\n x = 1\n'
    assert apply_edits({"f": text}, [Edit(path="f", diff=diff)]) == {
        "f": text.replace("0.1", "0.2")
    }
    more = "@@ -5 +5,2 @@\n last = 1\n+more = 2\n"
    added = apply_edits({"f": text}, [Edit(path="f", diff=more)])
    assert added["f"].splitlines() == [*text.splitlines(), "more = 2"]


ODD = st.text(st.sampled_from("ab\x0c\x1c\x85\u2028 \t\r"), max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(ODD, min_size=1, max_size=6),
    data=st.data(),
    ends=st.tuples(*[st.booleans()] * 2),
)
def test_a_diff_that_git_has_made_comes_to_what_git_was_shown(before, data, ends) -> None:
    """Whatever the lines hold, and whether the last has an end."""
    at = data.draw(st.integers(0, len(before) - 1))
    after = [*before[:at], data.draw(ODD), *before[at + 1 :]]
    old, new = (
        "\n".join(["top = 1", *each, "z"]) + "\n" * end
        for each, end in zip((before, after), ends, strict=True)
    )
    patch = git_diff(old, new)
    if not patch:
        return
    assert apply_edits({"f": old}, [Edit(path="f", diff=patch)]) == {"f": new}


def git_diff(old: str, new: str) -> str:
    """Return what `git diff` says, with all of the file as context."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("a", old), ("b", new)):
            Path(folder, name).write_bytes(text.encode())
        command = ["git", "diff", "--no-index", "-U99", "--text", "a", "b"]
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).stdout.decode()


def test_code_is_the_same_whatever_its_comments_and_its_form() -> None:
    same = "import math\nLR=0.1  # rate\nDEPTH = (4)\ndef loss():\n\n    return LR*DEPTH\n"
    assert digest({"train.py": TRAIN}) == digest({"train.py": same})
    assert digest({"train.py": TRAIN}) != digest({"train.py": same.replace("0.1", "0.2")})
    assert digest({"run.sh": "A=1 # x\n"}) != digest({"run.sh": "A=1\n"})
    assert digest({"train.py": "def ("}) != digest({"train.py": "def (("})


def test_a_twin_says_and_does_the_same_in_other_words() -> None:
    mine = unified({"f": "LR = 0.1\n"}, {"f": "LR = 0.3\n"})
    known = [
        past(1, hypothesis="raise the learning rate to 0.3", patch=mine),
        past(2, hypothesis="another activation", patch=mine),
        past(3, hypothesis="raise the learning rate to 0.3", patch="+DEPTH = 8\n"),
    ]
    words = "to 0.3 raise the learning rate"
    found = twin(known, hypothesis=words, patch=mine, likeness=92)
    assert found is not None
    assert found.experiment == "e1"
    assert twin(known[1:], hypothesis=words, patch=mine, likeness=92) is None
    assert twin(known, hypothesis=words, patch=mine, likeness=100) is None
