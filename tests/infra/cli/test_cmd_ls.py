"""`ls`: what of Incumbent there is on a machine."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.state import events as ev
from infra.local.controller_process import announce, sole_controller
from infra.local.node_home import NodeHome, NodeStatus, Standing
from infra.local.study import opened
from tests.infra.study_factory import Study
from tests.infra.user import CONFIG, TRAIN, User

HEAD = "10.0.0.5:7700"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    user = User.at(tmp_path)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    return user


def begun(user: User) -> None:
    """Have a study with a baseline and a better one, which does not run."""
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": f'{CONFIG}sandbox = "none"\n'})
    user.done("submit", "--set", "LR=0.3")
    told = Study(slots=2)
    told.baseline(1.0)
    with opened(user.home) as study:
        study.ledger.append(
            ev.Draft(id=f"told-{recorded.seq}", at=datetime.now(UTC), event=recorded.event)
            for recorded in told.events[1:]
        )


def test_a_machine_without_any_says_how_to_begin(user: User) -> None:
    said = "no study is on this machine: `incumbent run` in a repository begins one\n"
    assert user.done("ls") == said
    assert json.loads(user.done("ls", "--json")) == {"studies": [], "joined": []}


def test_a_study_that_is_stopped_is_listed_without_starting_its_server(user: User) -> None:
    begun(user)
    (study,) = json.loads(user.done("ls", "--json"))["studies"]
    assert (study["study"], study["state"]) == ("mar5", "stopped")
    assert study["repository"] == str(user.folder)
    assert study["best"] is None
    assert "mar5" in user.done("ls")
    assert not (user.home.runtime() / "redis.sock").exists()


def test_of_a_study_that_runs_the_best_is_told_and_where_it_has_slots(user: User) -> None:
    begun(user)
    with sole_controller(user.home):
        announce(user.home)
        (study,) = json.loads(user.done("ls", "--json"))["studies"]
    assert (study["state"], study["slots"], study["best"]) == ("running", 2, 1.0)
    assert len(study["nodes"]) == 1


def test_what_the_machine_has_joined_is_listed_while_it_has(user: User) -> None:
    home = NodeHome.locate(HEAD)
    home.create()
    status = NodeStatus(head=HEAD, node="rig", pid=4711, standing=Standing.JOINED, text="2 slots")
    with home.held():
        home.write_status(status)
        (joined,) = json.loads(user.done("ls", "--json"))["joined"]
        assert joined == {"head": HEAD, "node": "rig", "state": "joined", "reason": "2 slots"}
        assert "rig" in user.done("ls")
    assert json.loads(user.done("ls", "--json"))["joined"] == []
