"""Unified diffs: those that language models write of one file, and those that we show them.

Pure. The line numbers of models are guesses. `proposer.patch` reads the patches that people hand
in, which git is to apply exactly.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

_HEADER = re.compile(r"^@@(?: -(\d+)(?:,\d+)? \+\d+(?:,\d+)?)? ?@@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """Some lines and what comes in their place, context on both sides included."""

    line: int
    """Where it says that it begins, from 1; 0 if it does not say."""
    lines: tuple[tuple[str, str], ...]
    """Each with its sign (" ", "-" or "+"), and without its end."""
    is_open_ended: bool = False
    """Says that what it leaves ends without the end of a line."""

    @property
    def before(self) -> tuple[str, ...]:
        """The lines that it wants to find."""
        return tuple(text for sign, text in self.lines if sign != "+")


def read_hunks(path: str, diff: str) -> list[Hunk]:
    """Return the hunks of a diff of one file.

    Raises:
        ValueError: there is none, or a line that belongs to none; the message names it.
    """
    hunks: list[Hunk] = []
    line, lines, is_open_ended = 0, list[tuple[str, str]](), False
    is_inside = False

    def close() -> None:
        if is_inside and lines:
            hunks.append(Hunk(line=line, lines=tuple(lines), is_open_ended=is_open_ended))

    # By "\n" alone: other ends of lines (a form feed, U+2028) are text of the file.
    for number, text in enumerate(diff.removesuffix("\n").split("\n"), start=1):
        if header := _HEADER.match(text):
            close()
            is_inside, lines, is_open_ended = True, [], False
            line = int(header[1]) if header[1] else 0
        elif not is_inside:
            continue  # file names, or an index line
        elif text.startswith("\\"):
            is_open_ended = bool(lines) and lines[-1][0] != "-"
        elif text.startswith(("-", "+", " ")) or not text.strip("\r"):
            lines.append((text[:1].strip("\r") or " ", text[1:]))
        else:
            raise ValueError(f"{path}: line {number} of the diff begins with no +, - or space")
    close()
    if not hunks:
        raise ValueError(f"{path}: the diff has no hunk that begins with @@")
    return hunks


def unified(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return the unified diff between two versions of files; empty where they are the same."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for path in sorted({*before, *after})
        if before.get(path, "") != after.get(path, "")
        for line in difflib.unified_diff(
            lines_of(before.get(path, "")),
            lines_of(after.get(path, "")),
            f"a/{path}",
            f"b/{path}",
        )
    )


def lines_of(text: str) -> list[str]:
    """Return lines with their ends; as for git, that is the line feed alone."""
    return [line for line in re.split(r"(?<=\n)", text) if line]
