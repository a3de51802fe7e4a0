"""The depot actor as a node sees it. An edge to Ray."""

from collections.abc import Callable, Sequence
from typing import Any

import ray

from cluster.transport.actor_handle import CALL_S, ActorHandle
from cluster.transport.depot import DEPOT
from cluster.transport.manifest import Manifest, Room
from cluster.transport.packer import ANSWER_S, Packing, Parcel
from cluster.transport.shelf import Refused
from trainer.trial import CommitId, ExperimentId

PART_S = 60.0
"""How long a call may take that carries a few MiB, on a slow network."""


class RayDepot:
    """See cluster.transport.depot.Depot; a depot that is away is a ConnectionError."""

    def __init__(self, find: Callable[[], Any] = lambda: ray.get_actor(DEPOT)) -> None:
        self._depot = ActorHandle("the depot", find, raises=(Refused, OSError))

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
        """See Depot."""
        found: Parcel | Packing | None
        found = self._call("bundle", commit, tuple(have), patience_s=CALL_S + ANSWER_S)
        return found

    def more(self, key: str, offset: int) -> bytes:
        """See Depot."""
        part: bytes = self._call("more", key, offset, patience_s=PART_S)
        return part

    def promoted(self) -> Sequence[ExperimentId]:
        """See Depot."""
        found: Sequence[ExperimentId] = self._call("promoted")
        return found

    def append_log(self, name: str, offset: int, data: bytes) -> int:
        """See Depot."""
        size: int = self._call("append_log", name, offset, data)
        return size

    def put_log(self, name: str, data: bytes) -> None:
        """See Depot."""
        self._call("put_log", name, data, patience_s=PART_S)

    def begin(self, name: str, token: str) -> Room:
        """See Depot."""
        room: Room = self._call("begin", name, token)
        return room

    def put(self, delivery: tuple[str, str], place: str, offset: int, data: bytes) -> None:
        """See Depot."""
        self._call("put", delivery, place, offset, data, patience_s=PART_S)

    def finish(self, name: str, token: str, manifest: Manifest) -> None:
        """See Depot."""
        self._call("finish", name, token, manifest, patience_s=PART_S)

    def _call(self, method: str, *args: object, patience_s: float = CALL_S) -> Any:  # noqa: ANN401
        try:
            return self._depot.call(method, *args, patience_s=patience_s)
        except ConnectionError:
            raise
        except OSError as error:  # its disk is full, say
            raise ConnectionError(f"the head cannot do it: {error}") from None
