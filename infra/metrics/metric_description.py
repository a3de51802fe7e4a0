"""What a metric for Prometheus is called and means: what is served, and what is documented."""

from collections.abc import Mapping
from dataclasses import dataclass

Samples = Mapping[tuple[str, ...], float]
"""Values by the values of the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDescription:
    """A metric, as it is served and documented."""

    name: str
    type: str
    """counter, gauge or histogram."""
    labels: tuple[str, ...] = ()
    help: str
