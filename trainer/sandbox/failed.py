"""A bwrap that makes no sandbox on this machine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What came of trying it."""

    path: str
    said: str
    """One line."""
