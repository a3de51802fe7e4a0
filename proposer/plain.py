"""Texts of strangers, made fit to stand in a prompt or in a list. Pure."""

from trainer.log_capture import printable

OPEN, CLOSE = "<<<DATA", "DATA>>>"


def plain_line(text: str, most: int) -> str:
    """Return a text as one line of printable characters, cut to `most` of them."""
    return cut(" ".join(printable(text.replace("\n", " ")).split()), most)


def plain_text(text: str) -> str:
    """Return a text as lines of printable characters."""
    return "\n".join(printable(line).rstrip() for line in text.splitlines())


def fenced(text: str) -> str:
    """Return a text between marks that it cannot hold itself."""
    inside = plain_text(text).replace(OPEN, "<DATA").replace(CLOSE, "DATA>")
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
