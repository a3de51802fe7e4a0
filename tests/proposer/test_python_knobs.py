"""Constants of Python files: what is read, what is left alone, and what an edit changes."""

import ast
from textwrap import dedent

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proposer.knob import Hint, Knob, Range, splice
from proposer.python_knobs import read_python


def values(text: str) -> dict[str, object]:
    return {knob.name: knob.value for knob in read_python("train.py", dedent(text))}


def only(text: str) -> Knob:
    (knob,) = read_python("train.py", text)
    return knob


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("64", 64),
        ("524_288", 524_288),
        ("0x10", 16),
        ("2**19", 2**19),
        ("1 << 20", 2**20),
        ("40 * 524288", 40 * 524288),
        ("-3", -3),
        ("+3", 3),
        ("- 0.5", -0.5),
        ("1 / 4", 0.25),
        ("7 // 2 - 1 + 2", 4),
        ("3e-4", 3e-4),
        ("1_000.5", 1000.5),
        ("2 ** -3", 0.125),
        ("True", True),
        ("False", False),
        ('"SSSL"', "SSSL"),
        ("'SSSL'", "SSSL"),
    ],
)
def test_a_literal_is_read_with_its_source_and_its_place(literal: str, value: object) -> None:
    text = f"import os\n\nNAME = {literal}  # why\n"
    knob = only(text)
    assert (knob.value, type(knob.value), knob.source) == (value, type(value), literal)
    assert text[knob.start :].startswith(literal)


@pytest.mark.parametrize(
    "value",
    [
        "os.cpu_count()",
        "None",
        "[1, 2]",
        "(1, 'a')",
        "()",
        "f'{x}'",
        "b'x'",
        "'''long'''",
        "'a' 'b'",
        "1 if x else 2",
        "not True",
        "-True",
        "1j",
        "1e999",
        "1 / 0",
        "9**9**9",
        "2**64",
        "1 << 2000",
        "1 << -1",
        "(-8.0) ** 0.5",
        "1.5 << 2",
        "7 % 4",
        "'" + "x" * 65 + "'",
    ],
)
def test_other_expressions_are_no_knobs(value: str) -> None:
    assert values(f"NAME = {value}\n") == {}


def test_annotated_parenthesised_and_joined_assignments_are_read() -> None:
    text = "DEPTH: int = 8\nLR: Final[float] = (3e-4)\nA = 1; B = 2\nC: int\n"
    assert values(text) == {"DEPTH": 8, "LR": 3e-4, "A": 1, "B": 2}


def test_each_number_of_a_tuple_is_a_knob() -> None:
    text = "BETAS = (0.8, 0.95)\nSIZES = 1, -2\nDEEP = (\n    3,  # three\n    4,\n)\n"
    assert values(text) == {
        "BETAS[0]": 0.8,
        "BETAS[1]": 0.95,
        "SIZES[0]": 1,
        "SIZES[1]": -2,
        "DEEP[0]": 3,
        "DEEP[1]": 4,
    }


def test_only_the_module_level_counts() -> None:
    text = """
        A = 1
        if True:
            B = 2
        def f():
            C = 3
        class D:
            E = 4
        if __name__ == "__main__":
            F = 5
    """
    assert values(text) == {"A": 1}


@pytest.mark.parametrize(
    "again",
    [
        "A = 2",
        "A += 1",
        "if x:\n    A = 2",
        "for A in y:\n    pass",
        "import os as A",
        "def A():\n    pass",
        "class A:\n    pass",
        "def f():\n    global A\n    A = 2",
        "with x as A:\n    pass",
        "(A := 2)",
        "A, B = 1, 2",
    ],
)
def test_a_name_that_is_bound_again_is_left_alone(again: str) -> None:
    assert "A" not in values(f"A = 1\n{again}\n")


def test_a_local_variable_of_the_same_name_does_not_matter() -> None:
    assert values("A = 1\ndef f():\n    A = 2\n") == {"A": 1}


@pytest.mark.parametrize("targets", ["A = B = 1", "A, B = 1, 2", "x.A = 1", "x['A'] = 1"])
def test_assignments_to_anything_but_one_name_are_left_alone(targets: str) -> None:
    assert values(f"{targets}\n") == {}


def test_lower_case_names_need_a_steering_comment() -> None:
    text = "lr = 0.1\nwd = 0.1  # range: 0.01..1 log\nopt = 'adam'  # choices: adam, sgd\n"
    lr_less = read_python("train.py", text)
    assert [knob.name for knob in lr_less] == ["wd", "opt"]
    assert lr_less[0].hint == Hint(range=Range(low=0.01, high=1, log=True))
    assert lr_less[1].hint == Hint(choices=("adam", "sgd"))


def test_dunder_names_are_never_taken() -> None:
    assert values("__version__ = '1'  # choices: 1, 2\n__DEBUG__ = True\n") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A = 1\nB = (\nC = 2\n", "train.py, line 2: '(' was never closed"),
        ("A = 1\n  B = 2\n", "train.py, line 2: unexpected indent"),
        ("def f(:\n", "train.py, line 1: invalid syntax"),
        ("A = 1\0\n", "train.py"),
    ],
)
def test_a_syntax_error_names_the_file_and_the_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("(", r"\(")):
        read_python("train.py", text)


@pytest.mark.parametrize("text", ["", "\n", "# only a comment", "import os\n"])
def test_a_file_without_constants_has_none(text: str) -> None:
    assert read_python("train.py", text) == []


def test_a_line_that_libcst_misplaces_is_left_alone() -> None:
    assert values("\x0cA = 1\nB = 2\n") == {"B": 2}


PIECES = st.sampled_from(
    [
        "# a comment with LR = 5\n",
        "\n",
        "import os\n",
        'TEXT = """\nA = 3\n"""\n',
        "def f(x):\n\treturn   x\n",
        "x = 1;   y=2  # odd   spacing\n",
        "Über = 'ä€😀'\n",
        "pass\n",
    ]
)
SOURCES = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.integers(0, 10**9).map(lambda n: f"{n:_}"),
    st.integers(0, 40).map(lambda n: f"2**{n}"),
    st.floats(1e-12, 1e12).map(repr),
    st.floats(1e-12, 1e12).map(lambda x: f"{x:.2e}"),
    st.booleans().map(str),
    st.sampled_from(['"a"', "'b'"]),
)


@settings(deadline=None)  # the machine may be busy
@given(
    before=st.lists(PIECES),
    source=SOURCES,
    other=SOURCES,
    after=st.lists(PIECES),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    start=st.sampled_from(["", "\ufeff"]),
)
def test_an_edit_reads_back_and_changes_nothing_else(
    before: list[str], source: str, other: str, after: list[str], end: str, start: str
) -> None:
    old = f"NAME =  {source}   # a note\n"
    text = start + "".join([*before, old, *after]).replace("\n", end)
    (knob,) = (knob for knob in read_python("train.py", text) if knob.name == "NAME")
    new = ast.literal_eval(other) if "**" not in other else 1 << int(other[3:])
    assume(type(new) is type(knob.value))

    edited = splice(text, {knob: knob.spell(new)})

    (again,) = (knob for knob in read_python("train.py", edited) if knob.name == "NAME")
    assert again.value == new
    assert edited == text.replace(f"NAME =  {source} ", f"NAME =  {again.source} ", 1)
    assert splice(edited, {again: source}) == text
