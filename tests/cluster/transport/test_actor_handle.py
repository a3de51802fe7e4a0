"""What a caller makes of an actor that is away, or that fails."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from cluster.ledger.ledger import LedgerAway
from cluster.transport.actor_handle import ActorHandle

ACTOR = SimpleNamespace(ask=SimpleNamespace(remote=lambda *args: args))


class Answers:
    """Stands for Ray, which asks actors: each answer is returned, or raised if it is an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: object) -> None:
        self.left = list(answers)
        self.finds = 0
        monkeypatch.setattr(ray, "get", lambda _call, **_: self.next())
        self.handle = ActorHandle("the queue", self.find, raises=(ConnectionError,))

    def next(self) -> Any:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def find(self) -> object:
        self.finds += 1
        if self.finds == 1:
            raise ValueError("Failed to look up actor with name 'queue'")
        return ACTOR


def test_an_actor_that_was_away_is_looked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_s = Answers(monkeypatch, "first", "second", GetTimeoutError("nobody answers"), "third")
    told: list[object] = []
    for _ in range(5):
        try:
            told.append((ray_s.handle.call("ask", 1), ray_s.finds))
        except ConnectionError as error:
            told.append(str(error).split(":")[0])
    away = "the queue is away"
    assert told == [away, ("first", 2), ("second", 2), away, ("third", 3)]


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(LedgerAway("the server hangs"), LedgerAway), (KeyError("a mistake of ours"), RayTaskError)],
)
def test_errors_that_callers_know_are_raised_as_they_are(
    cause: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_s = Answers(monkeypatch, RayTaskError("ask", "", cause).as_instanceof_cause())
    ray_s.finds = 1  # it is there
    with pytest.raises(kind) as raised:
        ray_s.handle.call("ask")
    assert (raised.value is cause) == (kind is LedgerAway)
