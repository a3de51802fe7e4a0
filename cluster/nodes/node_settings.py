"""What a node process tells the driver that it starts, through a file of JSON."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Where a node is, and which study it joins."""

    head: str
    """HOST:PORT of the study."""
    node: str
    id: str
    """Of this membership."""
    directory: str
    """What belongs to this membership alone: token, logs, the folder of the study."""
    runtime: str
    empty: str
    environments: str
    others: tuple[str, ...] = ()
    """Folders like `directory` of this machine's other memberships, of which nothing lives."""
    slots: int
    """CPU slots, or at most so many GPU slots; 0 finds out."""
