"""What `incumbent submit --set` and `--grid` accept, and the proposals they make.

Pure. Knows the spelling `NAME=VALUE` and what a grid is. Does not know where files come from.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

from proposer.constants import change, read_constants
from proposer.knob import Knob, unknown
from proposer.proposal import Proposal, Scalar

MOST_POINTS = 10_000
"""Of one grid: a slip of the hand makes millions, and each is an experiment that waits."""


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """Read `NAME=VALUE` texts, e.g. of `--set LR=0.03 --set DEPTH=10`.

    Raises:
        ValueError: a text without a name or a value, or a name given twice.
    """
    settings: dict[str, str] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise ValueError(f"{text!r} is not of the form NAME=VALUE")
        if name in settings:
            raise ValueError(f"{name} is set twice")
        settings[name] = value
    return settings


def parse_grid(texts: Sequence[str]) -> list[dict[str, str]]:
    """Read `NAME=VALUE,VALUE` texts; return every combination, the last name varying fastest.

    Raises:
        ValueError: as `parse_settings`, an empty or repeated value, or more than `MOST_POINTS`.
    """
    axes = {name: values.split(",") for name, values in parse_settings(texts).items()}
    for name, values in axes.items():
        axes[name] = stripped = [value.strip() for value in values]
        if not all(stripped) or len(set(stripped)) < len(stripped):
            raise ValueError(f"{name}={','.join(values)} has an empty or a repeated value")
    if (points := prod(map(len, axes.values()))) > MOST_POINTS:
        raise ValueError(f"that makes {points:,} experiments, of at most {MOST_POINTS:,} at a time")
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values()) if values]


def apply_settings(files: Mapping[str, str], settings: Mapping[str, str]) -> Proposal:
    """Return the proposal that gives constants of the editable files the values a person typed.

    A value is read as the type that the constant has now, and written in its style.

    Raises:
        ValueError: no such constant (names the nearest), a value of another type, no value but
            present ones, or a file that cannot be read.
    """
    knobs = read_constants(files)
    return change(files, knobs, _typed(knobs, settings))


def leave_out_present(
    files: Mapping[str, str], points: Sequence[Mapping[str, str]]
) -> list[Mapping[str, str]]:
    """Return the points of a grid without the one that is there already.

    Raises:
        ValueError: no such constant, a value of another type, or a file that cannot be read.
    """
    knobs = read_constants(files)
    return [
        point
        for point in points
        if any(value != knobs[name].value for name, value in _typed(knobs, point).items())
    ]


def _typed(knobs: Mapping[str, Knob], settings: Mapping[str, str]) -> dict[str, Scalar]:
    for name in settings:
        if name not in knobs:
            raise ValueError(unknown(name, knobs))
    return {name: knobs[name].parse(text) for name, text in settings.items()}
