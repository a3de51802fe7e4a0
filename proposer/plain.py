"""Texts of strangers, made fit to stand in a prompt or in a list. Pure."""

import re

from trainer.log_capture import printable

OPEN, CLOSE = "<<<DATA", "DATA>>>"
_RUN = re.compile(r"<{3,}|>{3,}")
"""What no text between the marks holds: a mark needs three of them in a row."""


def plain_line(text: str, most: int) -> str:
    """Return a text as one line of printable characters, cut to `most` of them."""
    return cut(" ".join(printable(text.replace("\n", " ")).split()), most)


def plain_text(text: str) -> str:
    """Return a text as lines of printable characters."""
    return "\n".join(printable(line).rstrip() for line in text.splitlines())


def fenced(text: str) -> str:
    """Return a text between marks that it cannot hold itself."""
    inside = _RUN.sub(lambda run: run[0][:2], plain_text(text))
    return f"{OPEN}\n{inside}\n{CLOSE}"


def cut(text: str, most: int, *, keep_end: bool = False) -> str:
    """Return a text of at most `most` characters, and say so where something was cut."""
    if len(text) <= most:
        return text
    note = " [...] "
    kept = max(0, most - len(note))
    if not kept:
        return text[:most]
    return f"{note.lstrip()}{text[-kept:]}" if keep_end else f"{text[:kept]}{note.rstrip()}"
