"""Unified diffs of one file, as language models write them: with line numbers that are guesses.

Pure. `proposer.patch` reads the patches that people hand in, which git is to apply exactly.
"""

import re
from dataclasses import dataclass

_HEADER = re.compile(r"^@@(?: -(\d+)(?:,\d+)? \+\d+(?:,\d+)?)? ?@@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """Some lines and what comes in their place, context on both sides included; without ends."""

    line: int
    """Where it says that it begins, from 1; 0 if it does not say."""
    before: tuple[str, ...]
    after: tuple[str, ...]


def read_hunks(path: str, diff: str) -> list[Hunk]:
    """Return the hunks of a diff of one file.

    Raises:
        ValueError: there is none, or a line that belongs to none; the message names it.
    """
    hunks: list[Hunk] = []
    line, before, after = 0, list[str](), list[str]()
    is_inside = False

    def close() -> None:
        if is_inside and (before or after):
            hunks.append(Hunk(line=line, before=tuple(before), after=tuple(after)))

    for number, text in enumerate(diff.splitlines(), start=1):
        if header := _HEADER.match(text):
            close()
            is_inside, before, after = True, [], []
            line = int(header[1]) if header[1] else 0
        elif not is_inside or text.startswith("\\"):
            continue  # file names, an index line, or a note on the last line's end
        elif text.startswith(("-", "+", " ")) or not text:
            if not text.startswith("+"):
                before.append(text[1:])
            if not text.startswith("-"):
                after.append(text[1:])
        else:
            raise ValueError(f"{path}: line {number} of the diff begins with no +, - or space")
    close()
    if not hunks:
        raise ValueError(f"{path}: the diff has no hunk that begins with @@")
    return hunks
