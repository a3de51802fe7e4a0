"""The depot actor as a node sees it. An edge to Ray."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cluster.depot import DEPOT
from cluster.packer import Parcel
from trainer.trial import CommitId

CALL_S = 10.0
"""How long a call may take before it counts as a failure to connect."""
PACK_S = 600.0
"""The same for what has git pack a repository."""


class RayDepot:
    """See cluster.depot.Depot; a depot that is away is a ConnectionError."""

    def __init__(self, find: Callable[[], Any] = lambda: ray.get_actor(DEPOT)) -> None:
        self._find = find
        self._actor: Any = None

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | None:
        """See Depot."""
        found: Parcel | None = self._call("bundle", commit, tuple(have), patience_s=PACK_S)
        return found

    def more(self, key: str, offset: int) -> bytes:
        """See Depot."""
        part: bytes = self._call("more", key, offset)
        return part

    def _call(self, method: str, *args: object, patience_s: float = CALL_S) -> Any:  # noqa: ANN401
        try:
            actor = self._actor or self._find()
            self._actor = actor
            return ray.get(getattr(actor, method).remote(*args), timeout=patience_s)
        except RayTaskError as error:
            if isinstance(error.cause, OSError):  # its disk is full, say
                raise ConnectionError(f"the head cannot do it: {error.cause}") from None
            raise
        except (RayActorError, GetTimeoutError, ValueError) as error:
            # A ValueError is Ray's word for an actor of this name not being there.
            self._actor = None
            raise ConnectionError(f"the depot is away: {error}") from error
