"""The door of the head to code and files, for nodes that share no file system with it.

A named Ray actor on the head, beside the queue and apart from it: whatever is packed or written
here, leases and heartbeats do not wait. Imports no Ray: it is a plain class, and a test's too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cluster.ours import assert_ours
from cluster.packer import Packer, Parcel
from trainer.paths import WorkerPaths
from trainer.trial import CommitId

DEPOT = "depot"
"""Name of the actor, in the study's namespace."""
THREADS = 16
"""Calls that it serves at a time; git's processes are bounded further (cluster.packer)."""


class Depot(Protocol):
    """What a node asks of the head besides work.

    Calls may be repeated after a failure to connect. A method raises ConnectionError while the
    head is away, or cannot do it now.
    """

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | None:
        """See Packer.pack."""
        ...

    def more(self, key: str, offset: int) -> bytes:
        """See Packer.more."""
        ...


class DepotActor:
    """See Depot; its methods run in threads."""

    def __init__(self, directory: str) -> None:
        """Serve the study in `directory`."""
        assert_ours()
        study = Path(directory)
        paths = WorkerPaths(study=study, environments=study)
        self._packer = Packer(paths.repository, study / "depot")

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | None:
        """See Depot."""
        return self._packer.pack(commit, have)

    def more(self, key: str, offset: int) -> bytes:
        """See Depot."""
        return self._packer.more(key, offset)
