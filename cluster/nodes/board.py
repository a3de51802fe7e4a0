"""A board in Ray's control store, on which a study says what it is before anybody joins its Ray.

A machine that is of another version of Ray or of Python could not even call an actor; this it can
read, given the address and the token, and leave word there why it does not come.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError

from cluster.ledger.codec import SchemaError, from_json, to_json
from cluster.queue.brief import Brief, Refusal, Versions

_NAMESPACE = b"incumbent"
_BRIEF = b"brief"
_STOPPED = b""
_REFUSED = b"refused:"
_NAMES = b"names"
_CALL_S = 5.0
_WRONG_TOKEN = "InvalidAuthToken"  # noqa: S105 - what Ray's store calls it


class BoardAway(ConnectionError):
    """Nobody answers there, or not as a study of Incumbent does."""


class StudyStopped(BoardAway):
    """The study that was there has stopped, as somebody wanted: it may go on later."""


class WrongToken(PermissionError):
    """The token is not that of the study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfVersions:
    """What a brief holds whatever its version: this must never change."""

    versions: Versions


class Board:
    """The board of the study whose Ray is at `address`, HOST:PORT.

    Somebody has to listen there: Ray would try for 40 seconds. Methods raise BoardAway, WrongToken.
    """

    def __init__(self, address: str) -> None:
        with _translated(address):
            self._store: Any = GcsClient(address=address)
        self._address = address

    def post(self, brief: Brief) -> None:
        """Say what the study is, in place of what was said before."""
        self._put(_BRIEF, to_json(brief))

    def close(self) -> None:
        """Say that the study has stopped, in place of what it was."""
        self._put(_BRIEF, _STOPPED)

    def brief(self) -> Brief:
        """Return what the study is."""
        found = self._read()
        return from_json(Brief, found)

    def versions(self) -> Versions:
        """Return of which versions the study is, which versions of ours all understand."""
        return from_json(_OfVersions, self._read()).versions

    def _read(self) -> bytes:
        with _translated(self._address):
            found: bytes | None = self._store.internal_kv_get(_BRIEF, _NAMESPACE, _CALL_S)
        if found is None:
            raise BoardAway(f"the Ray at {self._address} is not that of a study, or is not up yet")
        if found == _STOPPED:
            raise StudyStopped("the study has stopped")
        return found

    def post_names(self, names: Mapping[str, str]) -> None:
        """Say which names are taken, and by whom: see QueueActor.names."""
        self._put(_NAMES, to_json(dict(names)))

    def names(self) -> Mapping[str, str]:
        """Return what was said of names last; nothing where the study has only begun."""
        with _translated(self._address):
            found: bytes | None = self._store.internal_kv_get(_NAMES, _NAMESPACE, _CALL_S)
        return from_json(dict[str, str], found) if found else {}

    def refuse(self, refusal: Refusal) -> None:
        """Leave word that a machine does not fit."""
        self._put(_REFUSED + refusal.node.encode(), to_json(refusal))

    def take_refusals(self) -> list[Refusal]:
        """Return what word was left, once."""
        found = []
        with _translated(self._address):
            for key in self._store.internal_kv_keys(_REFUSED, _NAMESPACE, _CALL_S):
                left = self._store.internal_kv_get(key, _NAMESPACE, _CALL_S)
                self._store.internal_kv_del(key, False, _NAMESPACE, _CALL_S)
                if left is not None:
                    with suppress(SchemaError):  # of another version of ours, or of nobody's
                        found.append(from_json(Refusal, left))
        return found

    def _put(self, key: bytes, value: bytes) -> None:
        with _translated(self._address):
            self._store.internal_kv_put(key, value, True, _NAMESPACE, _CALL_S)


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        # A store that has begun anew says so by the same error to whoever knew the one before.
        if _WRONG_TOKEN not in str(error):
            raise BoardAway(f"another Ray is at {address} now: {error}") from error
        raise WrongToken(
            f"the study at {address} does not take this token: the right one is in the file on its "
            "head that `incumbent nodes` names there"
        ) from error
    except RpcError as error:
        raise BoardAway(f"nothing at {address} answers as a study does: {error}") from error
