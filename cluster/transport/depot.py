"""The door of the head to code and files, for nodes that share no file system with it.

A named Ray actor on the head, beside the queue and apart from it: whatever is packed or written
here, leases and heartbeats do not wait. Imports no Ray: it is a plain class, and a test's too.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cluster.ours import assert_ours
from cluster.transport.manifest import Manifest, Room
from cluster.transport.packer import Packer, Packing, Parcel
from cluster.transport.shelf import ROOM, Shelf
from trainer.local_code import LocalCode
from trainer.paths import WorkerPaths
from trainer.removal import Trash
from trainer.retention import Keeper
from trainer.trial import CommitId, ExperimentId

DEPOT = "depot"
"""Name of the actor, in the study's namespace."""
THREADS = 16
"""Calls that it serves at a time; none of them waits for git to pack (cluster.transport.packer)."""


class Depot(Protocol):
    """What a node asks of the head besides work, and what it hands over besides outcomes.

    Calls may be repeated after a failure to connect. A method raises ConnectionError while the
    head is away, or cannot do it now, and cluster.transport.shelf.Refused of what it never takes.
    """

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
        """See Packer.pack."""
        ...

    def more(self, key: str, offset: int) -> bytes:
        """See Packer.more."""
        ...

    def promoted(self) -> Sequence[ExperimentId]:
        """Return the experiments that are on the study's branch."""
        ...

    def append_log(self, name: str, offset: int, data: bytes) -> int:
        """See Shelf.append_log."""
        ...

    def put_log(self, name: str, data: bytes) -> None:
        """See Shelf.put_log."""
        ...

    def begin(self, name: str, token: str) -> Room:
        """See Shelf.begin."""
        ...

    def put(self, delivery: tuple[str, str], place: str, offset: int, data: bytes) -> None:
        """See Shelf.put."""
        ...

    def finish(self, name: str, token: str, manifest: Manifest) -> None:
        """See Shelf.finish."""
        ...


class DepotActor:
    """See Depot; its methods run in threads."""

    def __init__(
        self, directory: str, base: CommitId, room: Room = ROOM, keep_gb: float = 0.0
    ) -> None:
        """Serve the study in `directory`, which began at `base`; see `adopt`."""
        assert_ours()
        study = Path(directory)
        self._paths = WorkerPaths(study=study, environments=study)
        self._packer = Packer(self._paths.repository, study / "depot")
        self._code = LocalCode(self._paths.repository, base)
        self._shelf = Shelf(self._paths, room)
        self._keeper = Keeper(
            self._paths,
            most_gb=keep_gb,
            promoted=self._code.promoted,
            throw=Trash(study / "returning" / "trash").throw,
        )
        self._keeping = threading.Lock()

    def adopt(self, room: Room, keep_gb: float) -> None:
        """Serve a new controller: what may come back of one trial, and be kept of all."""
        self._shelf.room = room
        self._keeper.most_gb = keep_gb

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
        """See Depot."""
        return self._packer.pack(commit, have)

    def more(self, key: str, offset: int) -> bytes:
        """See Depot."""
        return self._packer.more(key, offset)

    def promoted(self) -> Sequence[ExperimentId]:
        """See Depot."""
        return tuple(self._code.promoted())

    def append_log(self, name: str, offset: int, data: bytes) -> int:
        """See Depot."""
        return self._shelf.append_log(name, offset, data)

    def put_log(self, name: str, data: bytes) -> None:
        """See Depot."""
        self._shelf.put_log(name, data)

    def begin(self, name: str, token: str) -> Room:
        """See Depot."""
        return self._shelf.begin(name, token)

    def put(self, delivery: tuple[str, str], place: str, offset: int, data: bytes) -> None:
        """See Depot."""
        self._shelf.put(delivery, place, offset, data)

    def finish(self, name: str, token: str, manifest: Manifest) -> None:
        """See Depot."""
        self._shelf.finish(name, token, manifest)
        with self._keeping, suppress(OSError):  # it has come, whether there is room made or not
            self._keeper.note(name)
