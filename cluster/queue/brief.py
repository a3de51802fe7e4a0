"""What a node is told of a study before it may work for it, and whether the two fit together.

Plain data: it is read by a program that may be of another version.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from eval.metric import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What has to be the same on every machine of a study."""

    incumbent: str
    ray: str
    python: str

    @classmethod
    def ours(cls) -> "Versions":
        """Return those of this process."""
        return cls(
            incumbent=version("incumbent"), ray=version("ray"), python=platform.python_version()
        )

    def mismatch(self, head: "Versions") -> str:
        """Say what to install for these to fit the head's; empty if they do.

        Ray asks for one version of itself and of Python, down to its last number.
        """
        odd = [
            f"{name} {theirs} there, {ours} here"
            for name, theirs, ours in (
                ("Incumbent", head.incumbent, self.incumbent),
                ("Ray", head.ray, self.ray),
                ("Python", head.python, self.python),
            )
            if theirs != ours
        ]
        if not odd:
            return ""
        return f"{'; '.join(odd)}: all machines of a study need the same, install theirs here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """All that decides how the trials of a study are run and what becomes of what they leave."""

    base: str
    """Commit that environments are prepared at."""
    gpu_busy_mb: float
    trial: Mapping[str, Any] = field(default_factory=dict)
    metric: Metric
    editable: tuple[str, ...] = ()
    score: Mapping[str, Any] | None = None
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What else a model is asked, by the sections that say so: WorkerSettings.further."""
    keep: Mapping[str, Any] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    """Files among what trials leave that the head needs: WorkerSettings.needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """A study, as far as whoever runs its trials has to know it."""

    study: str
    """The namespace of its actors, and what its processes are marked with."""
    name: str
    """What people call it."""
    versions: Versions
    ray: str
    """Which Ray this is: another one at the same address is joined anew."""
    terms: Terms


class Order(StrEnum):
    """What a node is told when it says that it lives."""

    GO_ON = "go_on"
    LEAVE = "leave"  # finish what runs, then go
    TAKEN = "taken"  # another node of the study has this name


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A machine as it presents itself."""

    node: str
    """Its name: the host's, unless said otherwise. Slots of the node begin with it."""
    id: str
    """Of this membership: differs where two machines go by one name."""
    address: str
    versions: Versions
    cpus: int
    memory_gb: float
    gpus: tuple[str, ...] = ()
    prepared_s: float = 0.0
    """What making it ready has taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A node that does not fit, and why: what it leaves on the board for the head to tell."""

    node: str
    address: str
    reason: str
