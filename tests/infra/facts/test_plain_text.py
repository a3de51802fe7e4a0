"""Untrusted text, and numbers, made fit for people."""

import json

import pytest

from infra.facts.plain_text import (
    duration,
    json_text,
    number,
    on_the_clock,
    one_line,
    printable_lines,
    signed,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("LR 0.1 -> 0.2", "LR 0.1 -> 0.2"),
        (" two\r\n lines\tand a tab ", "two lines and a tab"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(0box\x1bc", "box"),
        ("\x9b31mred", "31mred"),
        ("a\u202eb\u2028c\x00d\x7f", "a b c d"),
        ("\ud800", ""),
        ("größer 学習率", "größer 学習率"),
    ],
)
def test_one_line_holds_nothing_but_printable_characters(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_long_line_is_cut_with_an_ellipsis() -> None:
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abc defg", 5) == "abc…"


def test_lines_of_a_log_stay_lines() -> None:
    assert printable_lines("a\x1b[31m\tb\r\n\x07c\n") == "a   b\n c"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_means_the_same_and_holds_nothing_that_a_terminal_obeys(indent: int | None) -> None:
    facts = {"größer": ["\x1b[31m\x9b2J\x85\u202e\u2066\ud800\U000e0001", "学習率 😀", 1.5, None]}
    text = json_text(facts, indent)
    assert json.loads(text) == facts
    assert text.replace("\n", "").isprintable()
    assert "größer" in text
    assert "学習率 😀" in text


def test_json_has_no_numbers_that_json_lacks() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))


def test_numbers_have_at_most_six_significant_digits() -> None:
    assert [number(v) for v in (None, 0.9979001, 344.68, 1e-7)] == [
        "-",
        "0.9979",
        "344.68",
        "1e-07",
    ]
    assert [signed(v) for v in (None, 0.12345, -3.0, 0.0)] == ["-", "+0.123", "-3", "+0"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (59.6, "1m00s"),
        (200, "3m20s"),
        (3599.7, "1h00m"),
        (4350, "1h12m"),
        (183_600, "2d03h"),
    ],
)
def test_durations_have_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.usefixtures("in_tokyo")
def test_a_moment_is_told_by_the_clock_of_where_it_is_read() -> None:
    assert on_the_clock("2026-08-01T22:30:05.5+00:00") == "2026-08-02 07:30:05"
    assert on_the_clock("2026-08-01T22:30:05.5+00:00", "%H:%M") == "07:30"
    assert on_the_clock("") == ""
