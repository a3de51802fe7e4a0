"""What a node makes of the head's failures."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from cluster.transport.ray_depot import RayDepot
from cluster.transport.shelf import Overtaken, Refused


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (Refused("too long"), Refused),
        (Overtaken("another came after it"), ConnectionError),
        (OSError(28, "No space left on device"), ConnectionError),
        (GetTimeoutError("nobody answers"), ConnectionError),
        (KeyError("a mistake of ours"), RayTaskError),
    ],
)
def test_what_is_refused_for_good_is_told_from_what_may_be_tried_again(
    cause: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(_call: object, **_: float) -> Any:
        is_ray_s = isinstance(cause, GetTimeoutError)
        raise cause if is_ray_s else RayTaskError("put", "", cause).as_instanceof_cause()

    monkeypatch.setattr(ray, "get", get)
    actor = SimpleNamespace(put=SimpleNamespace(remote=lambda *_: None))
    with pytest.raises(kind) as raised:
        RayDepot(lambda: actor).put(("e4.1-1", "a" * 8), "out/a", 0, b"1")
    assert (type(raised.value) is Refused) == (kind is Refused)
