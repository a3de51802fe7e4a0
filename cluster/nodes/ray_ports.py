"""Which ports the Ray of one study, or of one membership, has on a machine: a block of its own.

Left to itself, Ray chooses anew at each start, and no firewall could be told once. The block is
chosen by infra.local.port_blocks, and kept in a file beside the token, where `ray start` is told of
it. Knows Ray's options. Looks at no socket.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

FIRST, LAST = 10_000, 29_999
"""Where blocks are: below the ports that Linux gives to connections to other machines."""
SIZE = 500
"""A worker, an actor or a driver takes one."""
_FILE = "ray.ports"
_AGENTS = (
    "runtime-env-agent",
    "dashboard-agent-grpc",
    "dashboard-agent-listen",
    "metrics-export",
)
"""Of these, a Ray without its dashboard starts the first alone."""


@dataclass(frozen=True, slots=True)
class RayPorts:
    """One block: four ports that the machine itself needs, then those for all of the study's."""

    first: int

    @classmethod
    def kept_in(cls, directory: Path) -> Self | None:
        """Return the block of what belongs to a folder; None if it never had one."""
        try:
            return cls(int((directory / _FILE).read_text("ascii")))
        except (OSError, ValueError):
            return None

    def keep_in(self, directory: Path) -> None:
        """Have Ray take this block whenever it starts."""
        fresh = directory / f"{_FILE}.new"
        fresh.write_text(f"{self.first}\n", "ascii")
        fresh.replace(directory / _FILE)

    @property
    def last(self) -> int:
        """The highest of its ports."""
        return self.first + SIZE - 1

    @property
    def agents(self) -> range:
        """What only this machine itself needs."""
        return range(self.first, self.first + len(_AGENTS))

    @property
    def for_nodes(self) -> range:
        """What other machines of the study have to reach: node, objects, workers, drivers."""
        return range(self.agents.stop, self.last + 1)

    @property
    def fixed(self) -> range:
        """What Ray cannot do without; a worker's port that is taken it passes over."""
        return range(self.first, self.for_nodes.start + 2)

    def options(self) -> list[str]:
        """Return what `ray start` is told."""
        node, objects = self.for_nodes[:2]
        return [
            *(f"--{name}-port={port}" for name, port in zip(_AGENTS, self.agents, strict=True)),
            f"--node-manager-port={node}",
            f"--object-manager-port={objects}",
            f"--min-worker-port={self.fixed.stop}",
            f"--max-worker-port={self.last}",
        ]
