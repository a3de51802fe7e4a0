"""Waiting for a server that is away, by a clock that nothing but waiting moves."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cluster.ledger import patience
from cluster.ledger.ledger import LedgerAway
from cluster.ledger.patience import AWAY_S, PAUSE_S, patiently


@dataclass
class Study:
    """A controller's actions at a server that is away when it is told to be."""

    now: float = 0.0
    answers: Callable[[float], bool] = lambda _: True
    long_s: float = 0.0
    """How long the action takes before it needs the server."""
    done: list[str] = field(default_factory=list)

    def act(self) -> None:
        self.now += self.long_s
        self._ask("act")

    def renew(self) -> None:
        self._ask("renew")

    def revive(self) -> None:
        self.done.append("revive")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _ask(self, what: str) -> None:
        if not self.answers(self.now):
            raise LedgerAway("gone")
        self.done.append(what)

    def run(self) -> None:
        patiently(self.act, revive=self.revive, renew=self.renew)


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    study = Study()
    monkeypatch.setattr(patience.time, "monotonic", lambda: study.now)
    monkeypatch.setattr(patience.time, "sleep", study.sleep)
    return study


def test_an_action_is_done_again_when_the_leases_were_renewed(study: Study) -> None:
    study.answers = lambda now: now >= 3 * PAUSE_S
    study.run()
    assert study.done == [*["revive"] * 3, "renew", "act"]


def test_a_server_that_stays_away_is_given_up(study: Study) -> None:
    study.answers = lambda _: False
    with pytest.raises(LedgerAway):
        study.run()
    assert AWAY_S < study.now <= AWAY_S + 2 * PAUSE_S


def test_patience_begins_when_the_server_goes_away_not_when_the_action_began(study: Study) -> None:
    study.long_s = 2 * AWAY_S
    study.answers = lambda now: not study.long_s <= now < study.long_s + 3 * PAUSE_S
    study.run()
    assert study.done == [*["revive"] * 3, "renew", "act"]


def test_each_absence_has_its_own_patience(study: Study) -> None:
    """As long as two of them together are more than one may last."""
    study.long_s = 0.4 * AWAY_S
    away = [(0.4, 1.1), (1.5, 2.2)]
    study.answers = lambda now: not any(a * AWAY_S <= now < b * AWAY_S for a, b in away)
    study.run()
    assert [what for what in study.done if what != "revive"] == ["renew", "renew", "act"]


def test_a_server_that_answers_and_takes_no_writes_is_given_up_too(study: Study) -> None:
    """A full one renews what leases there are, if there are none."""

    def act() -> None:
        raise LedgerAway("full")

    with pytest.raises(LedgerAway, match="full"):
        patiently(act, revive=study.revive, renew=study.renew)
    assert AWAY_S < study.now <= AWAY_S + 2 * PAUSE_S
