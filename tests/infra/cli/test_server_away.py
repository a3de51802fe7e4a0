"""What commands say while a study's server does not answer: one line, soon, and the truth."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.ledger.ledger import LedgerAway
from cluster.state import events as ev
from cluster.state.state import StudyState
from infra.display.attach import Follower
from infra.facts.fact_records import StatusFacts
from infra.local import embedded_server
from infra.local.bounds import Bounds
from infra.local.controller_process import announce, sole_controller
from infra.local.requests import request
from infra.local.study import opened
from tests.infra.user import CONFIG, FAILURE, PROGRAM, TRAIN, User


@pytest.fixture
def user(tmp_path: Path) -> User:
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    return user


@pytest.fixture
def frozen(user: User) -> Iterator[User]:
    """A study that runs, with its server stopped in its tracks."""
    with opened(user.home) as study, sole_controller(user.home):
        announce(user.home)
        pid = int(study.client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield user
        finally:
            os.kill(pid, signal.SIGCONT)


def test_every_command_says_that_the_study_goes_on(frozen: User) -> None:
    for verb in ("status", "log"):
        said = frozen.refused(FAILURE, verb)
        assert "the embedded server lives, but does not answer" in said
        assert "workers hold their results and hand them in once it is back" in said
        assert f"(process {os.getpid()})" in said
        assert said.count("\n") == 1


def test_a_program_is_told_so_as_json(frozen: User) -> None:
    ended = frozen.run(PROGRAM, "status", "--json")
    assert ended.returncode == FAILURE
    facts = json.loads(ended.stdout)
    assert (facts["study"], facts["is_running"]) == ("mar5", True)
    assert "does not answer" in facts["away"]


class Told:
    """A view that keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.events: list[ev.Event] = []

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        self.events.append(recorded.event)

    def update(self, facts: StatusFacts) -> None:
        pass

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_whoever_watches_is_told_once_when_it_goes_and_when_it_is_back(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "ANSWER_S", 0.2)
    with opened(user.home) as study:
        view = Told()
        follower = Follower(study, view, Bounds())
        os.kill(int(study.client.info("server")["process_id"]), signal.SIGKILL)
        for _ in range(3):
            follower.look()
        assert len(view.notices) == 1
        assert "does not answer" in view.notices[0]
        study.server.revive()
        request(study, ev.PauseRequested())
        for _ in range(2):
            follower.look()
        assert view.notices[1:] == ["the ledger's server answers again"]
        assert view.events == [ev.PauseRequested()]


def test_a_study_that_does_not_run_promises_nothing(user: User) -> None:
    with pytest.raises(LedgerAway, match=r"^gone$"), opened(user.home):
        raise LedgerAway("gone")
