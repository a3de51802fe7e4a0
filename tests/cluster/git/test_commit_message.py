"""Messages are checked by what git reads back from them."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.git.commit_message import compose, one_line


def trailers(message: str) -> list[str]:
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"],
        input=message.encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "a\nExperiment: e0",
        "a\r\n\r\nb\x00c\x85d\u2028e",
        "--- a/train.py",
        "--- --- a/train.py",
        "  padded  ",
        "key: value",
        "# comment",
        "x" * 5000,
        "é 漢 🙂",
    ],
)
def test_any_value_is_read_back_as_one_trailer(value: str) -> None:
    message = compose(value, [("Hypothesis", value), ("Metric", value)])
    assert trailers(message) == [f"Hypothesis: {one_line(value)}", f"Metric: {one_line(value)}"]


def test_an_empty_value_is_left_out() -> None:
    message = compose("Subject", [("Proposer", " \n"), ("Metric", "1")])
    assert message == "Subject\n\nMetric: 1\n"


def test_without_trailers_a_message_is_its_subject() -> None:
    assert compose(" LR 1 -> 3\n") == "LR 1 -> 3\n"


@given(subject=st.text(), value=st.text())
def test_nothing_in_a_text_adds_a_line(subject: str, value: str) -> None:
    lines = compose(subject, [("Hypothesis", f"v {value}")]).splitlines()
    assert len(lines) == 3
    assert lines[0]
    assert not lines[0].startswith("---")
    assert len(lines[0]) <= 200
    assert lines[1] == ""
    assert lines[2].startswith("Hypothesis: v")


def test_nothing_is_left_that_a_terminal_obeys() -> None:
    assert compose("a\x9b2Jb\u202ec\x1b[1md\ud800e") == "a 2Jb c [1md e\n"
