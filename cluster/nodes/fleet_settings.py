"""What the controller tells the fleet process, through a file of JSON."""

from dataclasses import dataclass

from cluster.queue.brief import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What it takes to end what a study left in a Ray cluster that it had joined.

    The file is read for that by programs of other versions: these fields must never change.
    """

    study: str
    """The namespace of its actors."""
    address: str
    """Of a Ray cluster to join; empty for a private one."""
    empty: str
    """A folder with nothing in it to import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings(Joined):
    """What the fleet is told."""

    name: str
    """What people call the study."""
    url: str
    """Of the ledger's server, for the queue actor."""
    directory: str
    runtime: str
    environments: str
    listen: str = ""
    """Where a private Ray is reached by other machines, HOST:PORT; empty: on this one alone."""
    slots: int
    lease_s: float
    terms: Terms
