"""How often a study is looked at by whoever follows it, and how they know how it has ended."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from cluster.ledger.ledger import InMemoryLedger, RolledBack
from cluster.state import events as ev
from cluster.state.state import StudyState
from infra.display import attach
from infra.display.attach import LOOK_S, Follower, Left, follow
from infra.local.bounds import Bounds
from infra.local.study import opened
from tests.cluster.controller.test_controller_losses import roll_back
from tests.infra.study_factory import Study
from tests.infra.user import CONFIG, TRAIN, User


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


def test_who_follows_is_told_of_a_ledger_that_has_lost_its_latest_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. It reads an event. 2. The server loses that. 3. Somebody's next one gets its number."""
    user = User.at(tmp_path)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    told = Study(slots=2)
    told.baseline(1.0)
    drafts = [
        ev.Draft(id=f"told-{recorded.seq}", at=recorded.at, event=recorded.event)
        for recorded in told.events[1:]
    ]
    with opened(user.home) as study:
        study.ledger.append(drafts)
        follower = Follower(study, Mock(), Bounds())
        follower.look()
        roll_back(study.store, to=follower.state.seq - 2)
        for number in range(3):
            paused = ev.PauseRequested() if number % 2 else ev.ResumeRequested()
            study.ledger.append([ev.Draft(id=f"new-{number}", at=datetime.now(UTC), event=paused)])
        with pytest.raises(RolledBack, match="`incumbent run` goes on"):
            follower.look()
        assert Follower(study, Mock(), Bounds()).state.seq == follower.state.seq + 1


@pytest.mark.parametrize("stops", [True, False])
def test_a_study_has_ended_well_if_its_controller_said_so(
    monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    monkeypatch.setattr(attach, "gather", lambda *_: None)
    stopped = [ev.ControllerStopped(epoch=1, reason="stopped")] if stops else []
    since = [ev.NoteGiven(text="said since by somebody") for _ in range(8)]
    ledger = InMemoryLedger()
    events = [ev.ControllerStarted(epoch=1, pid=1, node="box"), *stopped, *since]
    now = datetime.now(UTC)
    ledger.append([ev.Draft(id=str(n), at=now, event=each) for n, each in enumerate(events)])
    study = SimpleNamespace(ledger=ledger, state=StudyState)
    view = SimpleNamespace(observe=lambda *_: None, update=lambda _: None)
    assert Follower(study, view, Bounds()).ended_well(epoch_before=0) is stops
