"""What the controller tells the fleet process, through a file of JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eval.metric import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What the fleet is told."""

    study: str
    name: str = ""
    """What people call the study."""
    base: str
    """Commit that environments are prepared at."""
    url: str
    """Of the ledger's server, for the queue actor."""
    directory: str
    runtime: str
    environments: str
    empty: str
    address: str
    """Of a Ray cluster to join; empty for a private one."""
    listen: str = ""
    """Where a private one is reached by other machines, HOST:PORT; empty: on this machine alone."""
    slots: int
    lease_s: float
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
