"""Literals: the style stays, and what was written reads back exactly."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposer import literal
from proposer.literal import Syntax

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FLOAT_STYLES = ["3e-4", "1.0E-3", "2.5e+08", "0.04", "1_000.0", "5e-04", ".5", "-1e-3", "1/3"]
INT_STYLES = ["8", "524_288", "2**17", "1 << 20", "0x10", "0b1", "40 * 524288", "-3", "0XFF"]


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        (1e-3, "3e-4", "1e-3"),
        (1.5e-3, "3e-4", "1.5e-3"),
        (1e-3, "3.0e-4", "1.0e-3"),
        (1e-3, "3E-4", "1E-3"),
        (1e-3, "3e-04", "1e-03"),
        (1e10, "1e-3", "1e10"),
        (1e10, "1e+3", "1e+10"),
        (-2e-5, "3e-4", "-2e-5"),
        (0.0, "3e-4", "0.0"),
        (0.00001, "0.04", "0.00001"),
        (12.0, "0.04", "12.0"),
        (1234567.5, "1_000.0", "1_234_567.5"),
        (1e300, "1.0", "1e+300"),
        (0.25, "1/4", "0.25"),
        (10, "8", "10"),
        (1048576, "524_288", "1_048_576"),
        (2**18, "2**17", "2**18"),
        (2**18, "2 ** 17", "2 ** 18"),
        (2**18, "1 << 17", "1 << 18"),
        (100, "2**17", "100"),
        (32, "0x10", "0x20"),
        (21000000, "40 * 524288", "21000000"),
        (False, "True", "False"),
        ("SSSS", '"SSSL"', '"SSSS"'),
        ("SSSS", "'SSSL'", "'SSSS'"),
        ('a"b', '"a"', "'a\"b'"),
        ("a\\b", '"a"', "'a\\\\b'"),
    ],
)
def test_a_new_value_is_written_in_the_style_of_the_old(
    value: literal.Scalar, like: str, expected: str
) -> None:
    assert literal.write(value, like) == expected


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        (1e-3, '"3e-4"', '"1e-3"'),
        (12, "8", "12"),
        (12, "'8'", "'12'"),
        (False, "true", "false"),
        (False, "YES", "NO"),
        (True, "Off", "On"),
        ("adam", "sgd", "adam"),
        ("a b", '"sgd"', '"a b"'),
    ],
)
def test_a_shell_value_keeps_its_quotes_and_its_words_for_true_and_false(
    value: literal.Scalar, like: str, expected: str
) -> None:
    assert literal.write(value, like, Syntax.SHELL) == expected


@pytest.mark.parametrize(
    ("value", "like"), [("a b", "sgd"), ("a;b", "sgd"), ('a"b', '"sgd"'), ("$HOME", '"sgd"')]
)
def test_a_word_that_the_shell_would_interpret_is_refused(value: str, like: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a shell assignment"):
        literal.write(value, like, Syntax.SHELL)


@settings(deadline=None)  # the machine may be busy
@given(value=FLOATS, like=st.sampled_from(FLOAT_STYLES))
def test_any_float_reads_back_exactly_and_as_a_float(value: float, like: str) -> None:
    read = ast.literal_eval(literal.write(value, like))
    assert isinstance(read, float)
    assert read == value


@settings(deadline=None)  # the machine may be busy
@given(value=st.integers(), like=st.sampled_from(INT_STYLES))
def test_any_integer_reads_back_exactly(value: int, like: str) -> None:
    text = literal.write(value, like)
    assert eval(text, {}) == value  # noqa: S307 (2**17 is no literal; we wrote the text)


@settings(deadline=None)  # the machine may be busy
@given(value=st.text(), like=st.sampled_from(['"a"', "'a'", 'r"a"']))
def test_any_string_reads_back_exactly(value: str, like: str) -> None:
    assert ast.literal_eval(literal.write(value, like)) == value


@pytest.mark.parametrize(
    ("text", "like", "expected"),
    [
        ("10", 8, 10),
        (" 1_000 ", 8, 1000),
        ("2**20", 8, 2**20),
        ("0x10", 8, 16),
        ("0.03", 1.0, 0.03),
        ("3", 1.0, 3.0),
        ("TRUE", False, True),
        ("off", True, False),
        ("SSSS", "SSSL", "SSSS"),
    ],
)
def test_typed_text_becomes_a_value_of_the_present_type(
    text: str, like: literal.Scalar, expected: literal.Scalar
) -> None:
    value = literal.read(text, like)
    assert (value, type(value)) == (expected, type(like))


@pytest.mark.parametrize(
    ("text", "like", "complaint"),
    [
        ("0.5", 8, "'0.5' is not a whole number"),
        ("2**999", 8, "too large"),
        ("fast", 1.0, "'fast' is not a number"),
        ("inf", 1.0, "not finite"),
        ("nan", 1.0, "not finite"),
        ("1", True, "neither true nor false"),
    ],
)
def test_text_of_another_type_is_refused(text: str, like: literal.Scalar, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("*", r"\*")):
        literal.read(text, like)
