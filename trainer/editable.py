"""Which files candidates may change: `[study] editable`. All others are frozen."""

import posixpath
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise


def is_editable(path: str, editable: Sequence[str]) -> bool:
    """Say whether a path is one of `editable`, or below one of them that ends in a slash."""
    return any(
        path.startswith(entry) if entry.endswith("/") else path == entry for entry in editable
    )


def named_editable(command: str, editable: Sequence[str]) -> str:
    """Return the first editable file that a command names; empty if it names none.

    As a path from where it starts, the top of the repository, or as Python's `-m` names a module.
    Raises ValueError for a command that cannot be split.
    """
    return next((path for path in _paths(shlex.split(command)) if is_editable(path, editable)), "")


def _paths(words: Sequence[str]) -> Iterator[str]:
    yield from map(posixpath.normpath, words)
    for option, module in pairwise(words):
        if option == "-m":
            path = module.replace(".", "/")
            yield from (f"{path}.py", f"src/{path}.py", f"{path}/__main__.py")
