"""Where a script's randomness comes from, as far as its text tells. Pure.

Runs of one tree that all set the same seed differ by what the machine does alone (the order of
sums on a card, say). That is less than what another patch of the same worth would differ by, so
whoever reads such a spread should know of it.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

VARIABLE = "INCUMBENT_SEED"
"""What every trial is told: another number for each further run of a candidate."""
_SETS = re.compile(
    r"\b(?:manual_seed(?:_all)?|seed_everything|set_seed|set_random_seed|PRNGKey)\s*\("
    r"|\brandom\.(?:seed|key)\s*\(|\b(?:default_rng|RandomState)\s*\(\s*\w"
    r"|\brandom_state\s*=\s*\d"
)


class SeedHabit(StrEnum):
    """What a script does about its seed."""

    TAKEN = "taken"  # it reads INCUMBENT_SEED: further runs have other seeds
    FIXED = "fixed"  # it sets one of its own: further runs repeat the first
    FREE = "free"  # it sets none: runs differ by themselves


def seed_habit(texts: Iterable[str]) -> SeedHabit:
    """Tell the habit from the sources that a trial runs, and its command."""
    known = list(texts)
    if any(VARIABLE in text for text in known):
        return SeedHabit.TAKEN
    return SeedHabit.FIXED if any(map(_sets_one, known)) else SeedHabit.FREE


def _sets_one(text: str) -> bool:
    lines = (line.partition("#")[0] for line in text.splitlines())
    return any(_SETS.search(line) for line in lines)
