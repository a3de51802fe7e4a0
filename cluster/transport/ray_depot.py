"""The depot actor as a node sees it. An edge to Ray."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cluster.transport.depot import DEPOT
from cluster.transport.manifest import Manifest, Room
from cluster.transport.packer import ANSWER_S, Packing, Parcel
from cluster.transport.shelf import Refused
from trainer.trial import CommitId, ExperimentId

CALL_S = 10.0
"""How long a call may take before it counts as a failure to connect."""
PART_S = 60.0
"""The same for what carries a few MiB, on a slow network."""


class RayDepot:
    """See cluster.transport.depot.Depot; a depot that is away is a ConnectionError."""

    def __init__(self, find: Callable[[], Any] = lambda: ray.get_actor(DEPOT)) -> None:
        self._find = find
        self._actor: Any = None

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
            actor = self._actor or self._find()
            self._actor = actor
            return ray.get(getattr(actor, method).remote(*args), timeout=patience_s)
        except RayTaskError as error:
            if isinstance(error.cause, OSError):  # its disk is full, say
                raise ConnectionError(f"the head cannot do it: {error.cause}") from None
            if isinstance(error.cause, Refused):
                raise error.cause from None
            raise
        except (RayActorError, GetTimeoutError, ValueError) as error:
            # A ValueError is Ray's word for an actor of this name not being there.
            self._actor = None
            raise ConnectionError(f"the depot is away: {error}") from error
