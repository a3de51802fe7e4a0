"""What proposers suggest to the tuner, as texts: ranges, choices, and points to try first.

Pure. Knows the words and what they mean for the constants that are there. A text that it does not
understand costs nothing but a reason, which the tuner's advice hands back to who wrote it. What a
range makes of a constant's space is `proposer.hinted_space`'s affair.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proposer.knob import Knob, unknown
from proposer.proposal import Scalar

MOST_TEXTS = 64
"""Older texts than the last so many are not read."""
MOST_POINTS = 16
"""Points to try first, the latest ones."""
_MOST_CHOICES = 32
_MOST_CHARS = 400
_NAME = r"(?P<name>[^\s\[\]{}=,]*[^\s\[\]{}=,:](?:\[\d+\])?)"
_RANGE = re.compile(
    rf"(?:suggest\s+)?{_NAME}\s*(?:\bin\b|=|:)?\s*\[(?P<low>[^,\[\]]+),(?P<high>[^,\[\]]+)\]"
    r"(?P<log>\s*,?\s*log)?",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    rf"(?:suggest\s+)?{_NAME}\s*(?:\bin\b|=|:)?\s*\{{(?P<choices>[^{{}}]+)\}}", re.IGNORECASE
)
_POINT = re.compile(r"(?:try\s+first|try|first)\b\s*:?\s*(?P<settings>.+)", re.IGNORECASE)
_FORMS = "write suggest LR in [1e-4, 3e-3], suggest DEPTH in {8, 10} or try LR=1e-3 DEPTH=10"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRange:
    """`suggest NAME in [low, high]`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedChoices:
    """`suggest NAME in {a, b}`."""

    values: tuple[Scalar, ...]


Wanted = WantedRange | WantedChoices


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What texts come to; of two on one constant, the later one."""

    wanted: Mapping[str, Wanted]
    points: tuple[Mapping[str, Scalar], ...]
    """What to try first, in the order in which it was suggested; each gives a few constants."""
    problems: tuple[str, ...]
    """Why a text was not understood, the text included."""


def read_hints(texts: Sequence[str], knobs: Mapping[str, Knob]) -> Hints:
    """Read texts, the oldest first. A text may hold several, apart by `;` or on lines."""
    wanted: dict[str, Wanted] = {}
    points: list[Mapping[str, Scalar]] = []
    problems: list[str] = []
    clauses = [
        clause.strip().rstrip(".")
        for text in texts[-MOST_TEXTS:]
        for clause in re.split(r"[;\n]", text)
        if clause.strip().rstrip(".")
    ]
    for clause in clauses[-MOST_TEXTS:]:
        try:
            found = _read(clause, knobs)
        except ValueError as error:
            problems.append(f"{clause[:80]!r}: {error}")
            continue
        if isinstance(found, tuple):
            name, one = found
            wanted.pop(name, None)
            wanted[name] = one
        else:
            points.append(found)
    return Hints(wanted=wanted, points=tuple(points[-MOST_POINTS:]), problems=tuple(problems))


def _read(clause: str, knobs: Mapping[str, Knob]) -> tuple[str, Wanted] | dict[str, Scalar]:
    if len(clause) > _MOST_CHARS:
        raise ValueError(f"is longer than {_MOST_CHARS} characters")
    if found := _RANGE.fullmatch(clause):
        knob = _knob(found["name"], knobs)
        return knob.name, _range(knob, found["low"], found["high"], log=bool(found["log"]))
    if found := _CHOICES.fullmatch(clause):
        knob = _knob(found["name"], knobs)
        return knob.name, _choices(knob, found["choices"])
    if found := _POINT.fullmatch(clause):
        return _point(found["settings"], knobs)
    raise ValueError(f"not understood; {_FORMS}")


def _knob(name: str, knobs: Mapping[str, Knob]) -> Knob:
    if name in knobs:
        return knobs[name]
    same = [knob for known, knob in knobs.items() if known.casefold() == name.casefold()]
    if len(same) != 1:
        raise ValueError(unknown(name, knobs))
    return same[0]


def _range(knob: Knob, low_text: str, high_text: str, *, log: bool) -> WantedRange:
    if isinstance(knob.value, bool | str):
        raise ValueError(f"{knob.name} is {knob.source}, no number; give choices in braces")  # noqa: TRY004 - of a text
    low, high = _number(low_text), _number(high_text)
    if low >= high:
        raise ValueError(f"{low:g} is not below {high:g}")
    if log and low <= 0:
        raise ValueError("a logarithmic range starts above 0")
    return WantedRange(low=low, high=high, log=log)


def _number(text: str) -> float:
    try:
        number = _power(text) if "**" in text else float(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text.strip()!r} is not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{text.strip()!r} is not a finite number")
    return number


def _power(text: str) -> float:
    base, exponent = text.split("**")
    return math.pow(float(base), float(exponent))


def _choices(knob: Knob, text: str) -> WantedChoices:
    texts = [part.strip().strip("\"'") for part in text.split(",") if part.strip()]
    if len(texts) > _MOST_CHOICES:
        raise ValueError(f"more than {_MOST_CHOICES} choices")
    values = tuple(dict.fromkeys(_value(knob, one) for one in texts))
    if not values:
        raise ValueError("no choices")
    return WantedChoices(values=values)


def _point(text: str, knobs: Mapping[str, Knob]) -> dict[str, Scalar]:
    point: dict[str, Scalar] = {}
    for setting in re.split(r"[\s,]+", re.sub(r"\s*=\s*", "=", text.strip(" ,"))):
        name, is_one, value = setting.partition("=")
        if not is_one or not value:
            raise ValueError(f"{setting!r} is not of the form NAME=VALUE")
        knob = _knob(name, knobs)
        point[knob.name] = _value(knob, value.strip("\"'"))
    return point


def _value(knob: Knob, text: str) -> Scalar:
    value = knob.parse(text)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    knob.spell(value)  # complains of a word that the file cannot hold
    return value
