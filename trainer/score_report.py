"""What the trusted side says of one trial's predictions. Does not know how it came to that."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReport:
    """What the scorer made of a trial's predictions."""

    value: float | None = None
    """The metric; finite."""
    reason: str = ""
    """Why there is none, in one line; empty if there is."""
    is_ours: bool = False
    """Whether that is our own trouble, or this machine's, and none of the predictions'."""
    tail: str = ""
    """End of what was printed, where that tells why there is none; empty where it may tell more."""
    summary: Mapping[str, float] = field(default_factory=dict)
    """Other numbers that the scorer printed."""
    wall_s: float = 0.0
