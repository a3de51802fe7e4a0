"""Assignments of shell scripts and environment files."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposer.knob import Hint, splice
from proposer.shell_knobs import read_shell


def values(text: str) -> dict[str, object]:
    return {knob.name: knob.value for knob in read_shell("run.sh", text)}


def test_assignments_are_read_with_their_types() -> None:
    text = (
        "#!/bin/sh\nLR=3e-4\nexport DEPTH=8 # layers\nDROPOUT='0.1'\nFLAG=true\n"
        'MODE="fast lane"\nOPT=adam\nOLD=007\nNEG=-2\nexec python train.py --depth=$DEPTH\n'
    )
    assert values(text) == {
        "LR": 3e-4,
        "DEPTH": 8,
        "DROPOUT": 0.1,
        "FLAG": True,
        "MODE": "fast lane",
        "OPT": "adam",
        "OLD": "007",
        "NEG": -2,
    }


@pytest.mark.parametrize(
    "line",
    [
        "LR=3e-4 python train.py",
        "  LR=3e-4",
        "LR=$1",
        'LR="$1"',
        "LR=${LR:-3e-4}",
        "LR=$(cat lr)",
        "LR=",
        "LR=''",
        "LR=1;DEPTH=2",
        "# LR=3e-4",
        "LR = 3e-4",
        "lr=3e-4",
        "LR=1#2",
        'LR="1',
        "LR='1\" ",
    ],
)
def test_what_is_no_plain_assignment_is_left_alone(line: str) -> None:
    assert values(f"{line}\n") == {}


@pytest.mark.parametrize("again", ["LR=2", "export LR=2", "  LR=2", "true && LR=2", "LR+=2"])
def test_a_name_that_is_assigned_again_is_left_alone(again: str) -> None:
    assert values(f"LR=1\n{again}\n") == {}


def test_a_comment_steers_the_search() -> None:
    (knob,) = read_shell(".env", "opt=adam # choices: adam, sgd\n")
    assert knob.hint == Hint(choices=("adam", "sgd"))


@settings(deadline=None)  # the machine may be busy
@given(
    value=st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e12, 1e12), st.booleans()),
    quote=st.sampled_from(["", "'", '"']),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_an_edit_reads_back_and_changes_nothing_else(value: float, quote: str, end: str) -> None:
    old = {bool: "no", int: "12", float: "2.5e-3"}[type(value)]
    head, tail = f"# settings{end}export  NAME={quote}", f"{quote}  # a note{end}OTHER=1{end}"
    text = head + old + tail
    knob = read_shell("run.sh", text)[0]

    edited = splice(text, {knob: knob.spell(value)})

    assert edited.startswith(head)
    assert edited.endswith(tail)
    assert read_shell("run.sh", edited)[0].value == value


def test_the_shell_agrees_with_what_was_written() -> None:
    text = "MODE=\"a b\" # choices: a b, c-d\nLR='3e-4'\n"
    knobs = read_shell("run.sh", text)
    edited = splice(text, {knobs[0]: knobs[0].spell("c d"), knobs[1]: knobs[1].spell(1e-3)})
    shown = subprocess.run(
        ["sh", "-c", f'{edited}\nprintf "%s|%s" "$MODE" "$LR"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "c d|1e-3"
