"""Writes another seed into a trial's copy of its tree, where `[trial] seed_pattern` finds one.

Knows files and limits. Does not know which trials are repeats. The pattern is the user's and the
text a candidate's, and together they can take a regular expression hours: so it is searched for in
a process that may die of it (trainer.apart), and a copy in which nothing was found in time stays as
it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from eval.seeds import (
    Reseed,
    SeedHabit,
    SeedLiteral,
    changed_lines,
    find_literals,
    fixes_seed,
    seed_habit,
    sets_seed,
    with_seed,
)
from trainer.apart import Unanswered, ask
from trainer.safe_read import SafeFolder, Unsafe

_PATIENCE_S = 3.0
"""As for trainer.plan_apart: a worker that asks has a heartbeat to send meanwhile."""
_MOST_SOURCE = 1 << 20
_MOST_BYTES = 8 << 20
"""Of all sources together; the rest is not looked at."""


def reseed(folder: Path, editable: Sequence[str], *, pattern: str, seed: int) -> tuple[Reseed, ...]:
    """Write a seed into the editable files below a folder, in which nothing runs yet.

    Files keep their owner and mode. Returns what was written. Raises OSError.
    """
    texts = dict(_sources(folder, editable))
    written: list[Reseed] = []
    for path, found in groupby(literals(texts, pattern), key=lambda literal: literal.path):
        text, reseeds = with_seed(texts[path], tuple(found), seed)
        (folder / path).write_bytes(text.encode())
        written += reseeds
    return tuple(written)


def literals(texts: Mapping[str, str], pattern: str) -> tuple[SeedLiteral, ...]:
    """Return what eval.seeds.find_literals does; nothing where that takes too long."""
    if not pattern or not any(texts.values()):
        return ()
    question = {"texts": dict(texts), "pattern": pattern}
    try:
        said = ask("trainer.reseed:answer", question, timeout_s=_PATIENCE_S)
        return tuple(SeedLiteral(path=p, line=n, at=a, old=old) for p, n, a, old in said)
    except (Unanswered, TypeError, ValueError):
        return ()


def answer(question: Mapping[str, Any]) -> list[tuple[str, int, int, str]]:
    """Answer `literals`, in the process apart."""
    found = find_literals(question["texts"], question["pattern"])
    return [(one.path, one.line, one.at, one.old) for one in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedReader:
    """Tells what the trees of one study do about their seeds."""

    pattern: str = ""
    """`[trial] seed_pattern`; empty where there is none."""
    command: str = ""
    """`[trial] command`, which may hand the seed on."""

    def habit(self, texts: Mapping[str, str]) -> SeedHabit:
        """Return the habit of the study's base, with these editable files."""
        found = len(literals(texts, self.pattern)) if self.pattern else None
        return seed_habit([*texts.values(), self.command], literals=found)

    def change(self, before: Mapping[str, str], after: Mapping[str, str]) -> SeedHabit | None:
        """Return the habit of a tree whose patch changes how the seed is set; None if it does not.

        A number of its own that it puts in is its habit, whatever else reads INCUMBENT_SEED still.
        """
        removed, added = changed_lines(before, after)
        is_found = {
            literal.line - 1
            for literal in literals({"": "\n".join((*added, *removed))}, self.pattern)
        }
        if not is_found and not any(map(sets_seed, (*removed, *added))):
            return None
        own = [place for place, line in enumerate(added) if fixes_seed(line)]
        if not own:
            found = len(literals(after, self.pattern)) or None
            return seed_habit([*after.values(), self.command], literals=found)
        return SeedHabit.WRITTEN if is_found.issuperset(own) else SeedHabit.FIXED


def _sources(folder: Path, editable: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the editable files of a folder that are text, by their paths there."""
    left = _MOST_BYTES
    with SafeFolder(folder) as safe:
        for path in sorted(set(editable)):
            with suppress(FileNotFoundError, Unsafe, UnicodeDecodeError):
                data = safe.read(path, min(_MOST_SOURCE, left))
                left -= len(data)
                yield path, data.decode()
