"""A constant that an optimiser may turn: where it stands, what it is, and what its comment allows.

Pure. Knows the record, the naming conventions, the comments that steer the search, and how a new
literal is put into a text. Does not know Python's or the shell's grammar (`proposer.python_knobs`,
`proposer.shell_knobs`) nor ranges (`proposer.space`).
"""

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from proposer import literal
from proposer.literal import Syntax
from proposer.proposal import Scalar

_CONVENTIONAL = re.compile(r"[A-Z][A-Z0-9_]*")
_CHOICES = re.compile(r"\bchoices:\s*(?P<choices>.*\S)")
_RANGE = re.compile(r"\brange:\s*(?P<low>\S+?)\s*\.\.\s*(?P<high>[^\s,;]+)(?P<log>\s+log\b)?")
# Luck and effort are not for an optimiser to buy a better number with ...
_LUCK_AND_EFFORT = ("SEED", "SEEDS", "BUDGET", "BUDGETS", "TIMEOUT", "DEADLINE")
_JUDGEMENT = ("EVAL", "VAL", "VALIDATION", "TEST")
# ... and these change what is said of a run, not the run.
_REPORTING = ("FLOPS", "LOG", "LOGGING", "PRINT", "VERBOSE", "DEBUG", "VERSION", "PORT")
_LEFT_ALONE = frozenset((*_LUCK_AND_EFFORT, *_JUDGEMENT, *_REPORTING))


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a comment `# range: low..high [log]` allows."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What the comment on a constant's line says of its values; empty without such a comment."""

    choices: tuple[Scalar, ...] = ()
    range: Range | None = None

    def __bool__(self) -> bool:
        return bool(self.choices) or self.range is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One constant of one file, valid for the very text it was read from."""

    name: str
    """`LR`; an element of a tuple is `BETAS[0]`; `a.py:LR` where two files have an LR."""
    path: str
    value: Scalar
    source: str
    """The literal as it is written, e.g. "3e-4", with quotes if it has some."""
    start: int
    """Offset of `source` in the file's text, in characters."""
    syntax: Syntax = Syntax.PYTHON
    hint: Hint = Hint()

    def spell(self, value: Scalar) -> str:
        """Return `value` as this constant's file would write it.

        Raises:
            ValueError: a string that its file cannot hold.
        """
        try:
            return literal.write(value, self.source, self.syntax)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def parse(self, text: str) -> Scalar:
        """Return what a person typed, as a value of this constant's type.

        Raises:
            ValueError: the text is no value of that type.
        """
        try:
            return literal.read(text, self.value)
        except ValueError as error:
            raise ValueError(f"{self.name} is {self.source} now, and {error}") from error


def splice(text: str, literals: Mapping[Knob, str]) -> str:
    """Return `text` with the literal of each knob replaced and every other byte as it was.

    Raises:
        ValueError: a knob was read from another text.
    """
    for knob in sorted(literals, key=lambda knob: knob.start, reverse=True):
        end = knob.start + len(knob.source)
        if text[knob.start : end] != knob.source:
            raise ValueError(f"{knob.path} is not the text that {knob.name} was read from")
        text = text[: knob.start] + literals[knob] + text[end:]
    return text


def is_constant(name: str, hint: Hint) -> bool:
    """Say whether a name is taken for a constant: ALL_CAPS, or any name with a steering comment.

    ALL_CAPS is autoresearch's convention. Other module-level names are as often working variables,
    so they need a comment to say that they are meant.
    """
    return bool(_CONVENTIONAL.fullmatch(name) or (hint and not name.startswith("__")))


def words(name: str) -> frozenset[str]:
    """Return the words of a name in capitals: `weight_decay` says WEIGHT and DECAY."""
    return frozenset(re.findall(r"[A-Z]+\d*", name.rpartition(":")[2].upper()))


def is_left_alone(name: str) -> bool:
    """Say whether a name speaks of seeds, budgets, evaluation or reporting.

    Such constants are turned only where a comment or the configuration gives them a range.
    """
    return bool(words(name) & _LEFT_ALONE)


def read_hint(
    comment: str, value: Scalar, *, source: str = "", syntax: Syntax = Syntax.PYTHON
) -> Hint:
    """Read `# choices: a, b` and `# range: 1e-4..1e-2 log` anywhere in a comment.

    A comment that does not fit the value is no hint: prose, a range for a word, one of fractions
    for a whole number, a choice that the shell could not write where `source` stands. Whoever wrote
    it, a candidate that was promoted maybe, must not end the tuner with it.
    """
    found = _CHOICES.search(comment)
    try:
        if found:
            texts = [text.strip().strip("\"'") for text in found["choices"].split(",")]
            choices = tuple(dict.fromkeys(literal.read(text, value) for text in texts if text))
            for choice in choices:
                literal.write(choice, source, syntax)  # complains of what cannot stand there
            return Hint(choices=choices) if len(choices) > 1 else Hint()
        found = _RANGE.search(comment)
        if found and not isinstance(value, bool | str):
            return Hint(range=_range(found, is_whole=isinstance(value, int)))
    except ValueError:
        pass
    return Hint()


def _range(found: re.Match[str], *, is_whole: bool) -> Range:
    limits = Range(low=float(found["low"]), high=float(found["high"]), log=bool(found["log"]))
    # Of two finite limits the distance may still be beyond floats, which no optimiser takes.
    if not (limits.low < limits.high and math.isfinite(limits.high - limits.low)):
        raise ValueError("no range")
    if is_whole and not (limits.low.is_integer() and limits.high.is_integer()):
        raise ValueError("no range of whole numbers")
    if limits.log and limits.low <= 0:
        raise ValueError("a logarithmic range starts above 0")
    return limits


def unknown(name: str, known: Collection[str]) -> str:
    """Return what to tell a person who named a constant that is not there."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.5)
    if near:
        return f"no constant {name}; did you mean {' or '.join(by_folded[n] for n in near)}?"
    return f"no constant {name}; there are {', '.join(sorted(known)) or 'none'}"
