"""Two changes of constants and of code, put together by value where lines are neighbours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposer import constants
from proposer.constants import change, merged_constants, read_constants
from proposer.proposal import Scalar
from proposer.python_knobs import read_python

TEXT = """\
LR = 3e-4
DEPTH = 8
WIDTH = 2**6
BETAS = (0.9, 0.95)
IS_BIASED = True
loss = f(LR)
"""
FILES = {"train.py": TEXT, "run.sh": "export BATCH=32\nexport WARMUP=0.1\n", ".env": "LR=1\n"}
PRESENT: dict[str, Scalar] = {
    "train.py:LR": 3e-4,
    "DEPTH": 8,
    "WIDTH": 64,
    "BETAS[0]": 0.9,
    "BETAS[1]": 0.95,
    "IS_BIASED": True,
    "BATCH": 32,
    "WARMUP": 0.1,
    ".env:LR": 1,
}


def other_values(value: Scalar) -> st.SearchStrategy[Scalar]:
    kinds = {bool: st.booleans(), int: st.integers(1, 2**40), float: st.floats(1e-9, 1e9)}
    return kinds[type(value)].filter(lambda new: new != value)


TURNS = st.fixed_dictionaries({name: other_values(value) for name, value in PRESENT.items()})


def turned(values: dict[str, Scalar]) -> dict[str, str]:
    return {**FILES, **change(FILES, read_constants(FILES), values).edits}


def one(old: str, new: str) -> dict[str, str]:
    """Return the files with one place changed."""
    assert old in TEXT
    return {**FILES, "train.py": TEXT.replace(old, new)}


@settings(max_examples=20, deadline=None)
@given(turns=TURNS, sides=st.permutations(list(PRESENT)), cut=st.integers(1, len(PRESENT) - 1))
def test_different_constants_are_merged_whichever_side_turned_them(
    turns: dict[str, Scalar], sides: list[str], cut: int
) -> None:
    ours, theirs = ({name: turns[name] for name in part} for part in (sides[:cut], sides[cut:]))
    both = turned(turns)
    assert merged_constants(FILES, turned(ours), turned(theirs)) == both
    assert merged_constants(FILES, turned(theirs), turned(ours)) == both
    recorded = {**PRESENT, **theirs}
    assert merged_constants(FILES, turned(ours), turned(theirs), recorded) == both


@settings(max_examples=20, deadline=None)
@given(turns=TURNS, others=TURNS, name=st.sampled_from(sorted(PRESENT)))
def test_a_constant_that_both_turned_is_merged_only_if_they_agree(
    turns: dict[str, Scalar], others: dict[str, Scalar], name: str
) -> None:
    ours, theirs = turned(turns), turned({name: others[name]})
    if turns[name] == others[name]:
        assert merged_constants(FILES, ours, theirs) == ours
        return
    for recorded in ({}, {**PRESENT, name: others[name]}):
        with pytest.raises(ValueError, match=" on one side and "):
            merged_constants(FILES, ours, theirs, recorded)


@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize(
    ("code", "constants_alone", "expected"),
    [
        # Code beside a constant, and a constant that has moved.
        (("loss = f(LR)", "loss = g(LR)"), ("True", "False"), "IS_BIASED = False\nloss = g(LR)\n"),
        (("LR = 3e-4\n", "import x\nLR = 3e-4\n"), ("3e-4", "1e-3"), "import x\nLR = 1e-3\n"),
        (("LR = 3e-4\n", "LR = 3e-4  # peak\n"), ("3e-4", "1e-3"), "LR = 1e-3  # peak\n"),
        # The same value, each in its own words: what has more than that keeps its own.
        (("LR = 3e-4\n", "LR = 1e-3  # up\n"), ("3e-4", "0.001"), "LR = 1e-3  # up\n"),
    ],
)
def test_constants_are_turned_in_code_that_the_other_side_changed(
    code: tuple[str, str], constants_alone: tuple[str, str], expected: str, *, is_swapped: bool
) -> None:
    sides = [one(*code), one(*constants_alone)]
    made = merged_constants(FILES, *(reversed(sides) if is_swapped else sides))
    assert expected in made["train.py"]


def test_elements_of_one_tuple_are_constants_of_their_own() -> None:
    made = merged_constants(FILES, one("(0.9,", "(0.8,"), one("0.95)", "0.99)"))
    assert made == one("(0.9, 0.95)", "(0.8, 0.99)")


def test_another_spelling_is_no_other_value() -> None:
    respelled, raised = one("3e-4", "0.0003"), one("3e-4", "1e-3")
    assert merged_constants(FILES, respelled, raised) == raised
    assert merged_constants(FILES, raised, respelled) == raised
    assert merged_constants(FILES, respelled, one("3e-4", "3.0e-4")) == one("3e-4", "3.0e-4")


def test_values_that_compare_equal_and_are_of_two_types_are_two() -> None:
    with pytest.raises(ValueError, match="DEPTH is 1 on one side and True on the other"):
        merged_constants(FILES, one("DEPTH = 8", "DEPTH = 1"), one("DEPTH = 8", "DEPTH = True"))


def test_a_name_is_found_where_another_file_has_it_by_now() -> None:
    before = {"a.py": "LR = 1\nD = 2\n", "b.py": "x = 1\n"}
    raised = {**before, "a.py": "LR = 5\nD = 2\n"}
    second = {"a.py": "LR = 1\nD = 2\nE = 3\n", "b.py": "LR = 7\n"}
    both = {"a.py": "LR = 5\nD = 2\nE = 3\n", "b.py": "LR = 7\n"}
    assert merged_constants(before, raised, second) == both
    assert merged_constants(before, second, raised, {"LR": 5, "D": 2}) == both


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (one("f(LR)", "g(LR)"), one("f(LR)", "h(LR)"), "more than constants"),
        (one("f(LR)", "g(LR)"), one("8\n", "9\nX = 1\n"), "more than constants"),
        (one("DEPTH = 8\n", ""), one("8", "9"), "DEPTH is no constant any more"),
        (one("= 8", "= pick()"), one("8", "9"), "DEPTH is no constant any more"),
        (one("8", "9"), one("8\n", "8\nDEPTH = DEPTH + 1\n"), "DEPTH is no constant any more"),
        (one("8", "9"), one("f(LR)", "f(LR"), r"train\.py"),
        (one("8", "9"), {**FILES, "new.py": ""}, "added or removed"),
        ({"train.py": TEXT}, one("8", "9"), "added or removed"),
    ],
)
def test_what_cannot_be_put_together_is_refused_with_a_reason(
    ours: dict[str, str], theirs: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        merged_constants(FILES, ours, theirs)


def test_a_base_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.py"):
        merged_constants({"train.py": "LR = (\n"}, {"train.py": "LR = 1"}, {"train.py": "LR = 2"})


@pytest.mark.parametrize(
    "recorded", [{"BATCH": True}, {"BATCH": "64"}, {"LR": 9}, {"run.sh:BATCH": 64}]
)
def test_a_record_that_is_not_of_these_texts_is_not_believed(recorded: dict[str, Scalar]) -> None:
    theirs = {**FILES, "run.sh": FILES["run.sh"].replace("32", "64")}
    made = merged_constants(FILES, one("8", "9"), theirs, recorded)
    assert made == {**one("8", "9"), "run.sh": theirs["run.sh"]}


def test_nothing_is_read_that_need_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(path: str, text: str) -> object:
        read.append(text)
        return read_python(path, text)

    monkeypatch.setattr(constants, "read_python_apart", count)
    hopeless = one("f(LR)", "g(LR)"), one("f(LR)", "h(LR)")
    with pytest.raises(ValueError, match="more than constants"):
        merged_constants(FILES, *hopeless)
    assert set(read) == {TEXT}
    read.clear()
    ours, theirs = one("f(LR)", "g(LR)"), turned({"DEPTH": 9})
    read.clear()
    merged_constants(FILES, ours, theirs, {**PRESENT, "DEPTH": 9})
    assert set(read) == {TEXT, ours["train.py"]}
