"""How often a study is looked at by whoever follows it."""

from types import SimpleNamespace

import pytest

from infra.display import attach
from infra.display.attach import LOOK_S, Left, follow


class Slow:
    """A study that runs for three looks, each of which takes a while."""

    def __init__(self, clock: SimpleNamespace, look_s: float) -> None:
        self.state = SimpleNamespace(epoch=1)
        self._clock = clock
        self._look_s = look_s
        self._looks = 0

    def is_over(self) -> bool:
        return self._looks == 3

    def is_running(self) -> bool:
        return True

    def look(self) -> None:
        self._looks += 1
        self._clock.now += self._look_s

    def ended_well(self, epoch_before: int) -> bool:
        return epoch_before == 0


@pytest.mark.parametrize(("look_s", "pause_s"), [(0.001, LOOK_S), (0.125, 1.125)])
def test_what_takes_long_to_look_at_is_looked_at_less_often(
    monkeypatch: pytest.MonkeyPatch, look_s: float, pause_s: float
) -> None:
    clock, pauses = SimpleNamespace(now=1.0), []
    time = SimpleNamespace(monotonic=lambda: clock.now, sleep=pauses.append)
    monkeypatch.setattr(attach, "time", time)
    assert follow(Slow(clock, look_s), presses=lambda: 0) is Left.ENDED
    assert pauses == pytest.approx([pause_s] * 3)
