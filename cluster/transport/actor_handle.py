"""A handle for an actor that may go away and come back. An edge to Ray."""

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

CALL_S = 10.0
"""How long a call may take, beyond its own wait, before it counts as a failure to connect."""


class ActorHandle:
    """An actor that is looked for when it is first called, and anew after it was away."""

    def __init__(
        self, name: str, find: Callable[[], Any], *, raises: tuple[type[Exception], ...]
    ) -> None:
        """`name` is for messages; `raises` are exceptions of the actor's own that callers know."""
        self._name = name
        self._find = find
        self._raises = raises
        self._actor: Any = None

    def call(self, method: str, *args: object, patience_s: float = CALL_S) -> Any:  # noqa: ANN401
        """Return what a method of the actor answers.

        Raises ConnectionError if it is away, one of `raises`, or Ray's RayTaskError for any other.
        """
        try:
            if self._actor is None:
                self._actor = self._find()
            return ray.get(getattr(self._actor, method).remote(*args), timeout=patience_s)
        except RayTaskError as error:
            if isinstance(error.cause, self._raises):
                raise error.cause from None
            raise
        except (RayActorError, GetTimeoutError, ValueError) as error:
            # A ValueError is Ray's word for an actor of this name not being there.
            self._actor = None
            raise ConnectionError(f"{self._name} is away: {error}") from error
