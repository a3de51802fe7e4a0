"""What comes back to the head of what a trial left on a node, and what stays there. Pure.

Names in here are as they are shown: a candidate may have chosen them, so what does not print is
there as its escape.
"""

from dataclasses import dataclass

MOST_LISTED = 1000
"""Files that are named; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much of what one attempt left the head takes."""

    bytes: int = 0
    needed_bytes: int = 0
    """The same for the files that it scores itself."""
    lack: str = ""
    """Why it takes nothing at present; empty if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A file that a trial left."""

    name: str
    """Within its folder."""
    bytes: int
    stayed: str = ""
    """Why it stayed on the node; empty if it is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one attempt at a trial left."""

    node: str
    folder: str
    """Where its output lies on the node, or lay: see `[keep] disk_gb`."""
    files: tuple[Left, ...] = ()
    """Of its output folder."""
    unlisted: int = 0
    """Further files of it."""
    predictions: tuple[Left, ...] = ()
    """What was predicted by the model among that, where models are asked."""
    logs: tuple[Left, ...] = ()
    problem: str = ""
    """Why its output folder cannot be looked into; empty if it can."""


def shown(name: str) -> str:
    """Return a name in which everything prints."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def problem_with(name: str) -> str:
    """Say why a file of this name is not written on another machine; empty if it may be."""
    if shown(name) != name:
        return "its name does not print"
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "is no name within the folder"
    if len(parts) > _MOST_PARTS or any(len(part.encode()) > _MOST_PART for part in parts):
        return "has too long a name"
    if len(name.encode()) > _MOST_WHOLE:
        return "has too long a path"
    return ""


_MOST_PARTS = 64
_MOST_PART = 200
_MOST_WHOLE = 2000
"""Linux takes names of 4095 bytes: what is left is for the folders above it, on any machine."""
