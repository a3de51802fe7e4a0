"""Where a script's randomness comes from, as far as its text tells. Pure.

Runs of one tree that all set the same seed differ by what the machine does alone (the order of
sums on a card, say). That is less than what another patch of the same worth would differ by, so
whoever reads such a spread should know of it. And a patch that chooses another seed has found
luck, if it has found anything.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

VARIABLE = "INCUMBENT_SEED"
"""What every trial is told: another number for each further run of a candidate."""
MOST_LITERALS = 100
"""What a pattern finds more often than that is no seed, and is left alone."""
_MOST_DIGITS = 20
_SETS = re.compile(
    r"\b(?:manual_seed(?:_all)?|seed_everything|set_seed|set_random_seed|PRNGKey)\s*\("
    r"|\brandom\.(?:seed|key)\s*\(|\b(?:default_rng|RandomState)\s*\(\s*\w"
    r"|\brandom_state\s*=\s*\d"
)
_NAMES = re.compile(r"(?<![A-Za-z0-9])seed\w*\s*(?::[^=]*)?=(?!=)", re.IGNORECASE)
_BY_NUMBER = re.compile(r"[(=]\s*\d[\d_]*\s*(?:[,)\]]|$)")
"""What is set is a number that stands there, and nothing that is computed or read."""
_NAMED_NUMBER = re.compile(
    r"\b(\w*seed\w*|default_rng|RandomState|PRNGKey|random_state)\s*([(=])\s*\d+\s*(?:[,)]|$)",
    re.IGNORECASE,
)


class SeedHabit(StrEnum):
    """What a script does about its seed."""

    TAKEN = "taken"  # it reads INCUMBENT_SEED: further runs have other seeds
    WRITTEN = "written"  # `[trial] seed_pattern` finds it: others are written into further runs
    FIXED = "fixed"  # it sets one of its own: further runs repeat the first
    FREE = "free"  # it sets none: runs differ by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedLiteral:
    """A number that `[trial] seed_pattern` finds in a source."""

    path: str
    line: int
    """1 for the first."""
    at: int
    """Characters of the line before it."""
    old: str
    """Its digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reseed:
    """A seed that was written into a trial's copy of its tree, and nowhere else."""

    path: str
    line: int
    old: str
    new: str


def seed_habit(texts: Iterable[str], *, literals: int | None = None) -> SeedHabit:
    """Tell the habit from the sources that a trial runs, and its command.

    `literals` says how many seeds the study's pattern finds there; None where it has none.
    """
    known = list(texts)
    if any(VARIABLE in text for text in known):
        return SeedHabit.TAKEN
    if literals is not None:
        return SeedHabit.WRITTEN if literals else SeedHabit.FIXED
    return SeedHabit.FIXED if any(map(_sets_one, known)) else SeedHabit.FREE


def changed_lines(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines that a patch takes out, and those that it puts in, of all files."""
    removed: list[str] = []
    added: list[str] = []
    for path in sorted({*before, *after}):
        old, new = (Counter(_lines(texts.get(path, ""))) for texts in (before, after))
        removed += (old - new).elements()
        added += (new - old).elements()
    return tuple(removed), tuple(added)


def sets_seed(line: str) -> bool:
    """Say whether a line of a source decides on a seed, as far as it tells."""
    code = line.partition("#")[0]
    return bool(_SETS.search(code) or _NAMES.search(code) or VARIABLE in code)


def fixes_seed(line: str) -> bool:
    """Say whether a line sets a seed to a number of its own."""
    code = line.partition("#")[0]
    return sets_seed(line) and VARIABLE not in code and bool(_BY_NUMBER.search(code.rstrip()))


def suggested_pattern(line: str) -> str:
    """Return a pattern that finds the seed that a line sets; empty where there is none for it."""
    found = _NAMED_NUMBER.search(line.partition("#")[0].rstrip())
    if found is None or not fixes_seed(line):
        return ""
    return rf"\b{found[1]}\s*{re.escape(found[2])}\s*(\d+)"


def find_literals(texts: Mapping[str, str], pattern: str) -> tuple[SeedLiteral, ...]:
    """Return the numbers that a pattern's one group captures, searched in each line.

    None of them if there are more than MOST_LITERALS. How long that takes is up to the pattern and
    to whoever wrote the texts: see trainer.reseed.
    """
    compiled = re.compile(pattern)
    found: list[SeedLiteral] = []
    for path in sorted(texts):
        for number, line in enumerate(_lines(texts[path]), start=1):
            for match in compiled.finditer(line):
                if _is_number(match[1]):
                    literal = SeedLiteral(path=path, line=number, at=match.start(1), old=match[1])
                    found.append(literal)
                    if len(found) > MOST_LITERALS:
                        return ()
    return tuple(found)


def with_seed(
    text: str, literals: Sequence[SeedLiteral], seed: int
) -> tuple[str, tuple[Reseed, ...]]:
    """Return a file's text with another seed for each of its literals, and what was written.

    Where the seed stands there already, it is 1: a repeat is to differ from the first run.
    """
    lines = _lines(text)
    written: list[Reseed] = []
    for literal in sorted(literals, key=lambda one: (one.line, one.at), reverse=True):
        line, end = lines[literal.line - 1], literal.at + len(literal.old)
        new = str(1 if int(literal.old) == seed else seed)
        lines[literal.line - 1] = line[: literal.at] + new + line[end:]
        written.append(Reseed(path=literal.path, line=literal.line, old=literal.old, new=new))
    return "\n".join(lines), tuple(reversed(written))


def _sets_one(text: str) -> bool:
    lines = (line.partition("#")[0] for line in text.splitlines())
    return any(_SETS.search(line) for line in lines)


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _is_number(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
