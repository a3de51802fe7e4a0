"""Which files candidates may change: `[study] editable`. All others are frozen."""

from collections.abc import Sequence


def is_editable(path: str, editable: Sequence[str]) -> bool:
    """Say whether a path is one of `editable`, or below one of them that ends in a slash."""
    return any(
        path.startswith(entry) if entry.endswith("/") else path == entry for entry in editable
    )
