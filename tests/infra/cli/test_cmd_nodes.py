"""The nodes of a study: how each is, and what people may ask of it."""

import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from cluster.config_file import load_config
from cluster.state import events as ev
from cluster.state.node_state import NodeStatus
from cluster.state.state import StudyState
from infra.display import tables
from infra.display.node_table import render_nodes
from infra.facts.node_facts import node_facts
from infra.local.controller_process import announce, sole_controller
from infra.local.settings import save_settings
from infra.local.study import opened
from tests.infra.study_factory import Study
from tests.infra.user import CONFIG, PROGRAM, TRAIN, USAGE, User
from trainer.trial import SlotId


def opening(slot: str, node: str, device: str) -> ev.SlotOpened:
    return ev.SlotOpened(
        slot=SlotId(slot), incarnation="1", node=node, device=device, device_class=device
    )


def joined(node: str, **facts: object) -> ev.NodeJoined:
    about = {
        "address": "10.0.0.7",
        "incumbent": "1.0",
        "python": "3.12.3",
        "ray": "2.51.1",
        "cpus": 8,
        "memory_gb": 31.0,
    }
    return ev.NodeJoined(node=node, **(about | facts))


EVENTS = (
    ev.ControllerStarted(epoch=1, pid=4711, node="box"),
    opening("cpu-0", "box", "cpu"),
    ev.NodeRefused(node="gamma", address="10.0.0.9", reason="Ray 2.9.0, the study has 2.51.1"),
    joined("alpha", gpus=("NVIDIA H200", "NVIDIA H200")),
    opening("alpha/gpu-0", "alpha", "NVIDIA H200"),
    opening("alpha/gpu-1", "alpha", "NVIDIA H200"),
    joined("beta", address="10.0.0.8"),
    opening("beta/cpu-0", "beta", "cpu"),
    ev.NodeQuarantined(node="beta", reason="e1.1, e2.1, e3.1 failed here and passed elsewhere"),
)


@pytest.fixture
def idle(tmp_path: Path) -> User:
    """Somebody whose study has a head and two nodes, one of them in quarantine; nothing runs."""
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    happen(user, *EVENTS)
    return user


@pytest.fixture
def user(idle: User) -> Iterator[User]:
    """The same while the study runs."""
    with sole_controller(idle.home):
        announce(idle.home)
        yield idle


def happen(user: User, *events: ev.Event) -> None:
    with opened(user.home) as study:
        for number, event in enumerate(events):
            at = datetime.now(UTC)
            study.ledger.append([ev.Draft(id=f"{number}/{at}", at=at, event=event)])


def state(user: User) -> StudyState:
    with opened(user.home) as study:
        return study.state()


def test_the_table_tells_how_each_node_is_and_why(user: User) -> None:
    lines = user.done("nodes").splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["node", "state"],
        ["box", "running"],
        ["alpha", "joined"],
        ["beta", "quarantined"],
        ["gamma", "refused"],
    ]
    assert "(head)" in lines[1]
    assert "1 idle" in lines[1]
    assert "2 idle" in lines[2]
    assert lines[2].endswith("10.0.0.7  2 x NVIDIA H200")
    assert "1 blocked" in lines[3]
    assert lines[5:] == [
        "",
        "beta quarantined: e1.1, e2.1, e3.1 failed here and passed elsewhere",
        "gamma refused: Ray 2.9.0, the study has 2.51.1",
    ]


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        (EVENTS, 5),
        ((opening("cpu-0", "box", "cpu"), joined("a-machine-with-a-longer-name.of-some-lab")), 3),
        ((joined("rig", gpus=("NVIDIA GeForce RTX 4090",) * 8),), 2),
    ],
)
def test_a_screen_of_80_columns_has_room_for_nodes_and_for_why_one_was_refused(
    monkeypatch: pytest.MonkeyPatch, events: Sequence[ev.Event], rows: int
) -> None:
    monkeypatch.setattr(tables, "WIDTH_OF_A_PIPE", 80)
    study = Study(slots=0)
    reason = "Incumbent 1.1 there, 1.0 here; Python 3.12.4 there, 3.12.3 here: install " + "it " * 9
    study.tell(*events, ev.NodeRefused(node="worn", address="10.77.200.103", reason=reason))
    shown = io.StringIO()
    render_nodes(node_facts(study.state, study.now, is_running=True), file=shown)
    table, _, told = shown.getvalue().partition("\n\n")
    assert all(len(line) <= 80 for line in shown.getvalue().splitlines())
    assert len(table.splitlines()) <= rows + 2, "next to nothing wraps"
    assert f"worn refused: {reason}" == " ".join(told.splitlines()[-2:]) + " "


def test_how_others_join_is_said_while_the_study_runs_and_not_when_it_has_stopped(
    idle: User,
) -> None:
    cluster = ClusterConfig(listen="10.0.0.5:7700")
    config = load_config(idle.folder / "incumbent.toml")
    save_settings(idle.home, config.model_copy(update={"cluster": cluster}))
    with sole_controller(idle.home):
        announce(idle.home)
        assert "type there: incumbent join 10.0.0.5:7700" in idle.run(PROGRAM, "nodes").stderr
    assert "incumbent join" not in idle.run(PROGRAM, "nodes").stderr


def test_programs_read_the_same(user: User) -> None:
    facts = json.loads(user.done("nodes", "--json"))
    assert facts["study"] == "mar5"
    box, alpha, beta, gamma = facts["nodes"]
    assert (box["head"], box["state"], box["seconds"] < 60) == (True, "running", True)
    assert alpha["slots"] == {"busy": 0, "idle": 2, "blocked": 0}
    assert alpha["devices"] == ["NVIDIA H200", "NVIDIA H200"]
    assert (alpha["cpus"], alpha["memory_gb"], alpha["head"]) == (8, 31.0, False)
    assert (beta["state"], beta["slots"]["blocked"]) == ("quarantined", 1)
    assert gamma["address"] == "10.0.0.9"
    assert json.loads(user.done("status", "--json"))["nodes"][2]["reason"] == beta["reason"]


def rows(study: Study, *, is_running: bool = True) -> list[list[str]]:
    """Return the words of each line of the table."""
    shown = io.StringIO()
    render_nodes(node_facts(study.state, study.now, is_running=is_running), file=shown)
    return [line.split() for line in shown.getvalue().splitlines()[1:]]


def test_a_head_runs_for_as_long_as_its_controller_lives_also_without_slots() -> None:
    study = Study(slots=0)
    study.now += timedelta(seconds=8)
    assert rows(study) == [["box", "running", "(head)", "8s", "0", "slots"]]
    assert rows(study, is_running=False) == [["box", "stopped", "(head)"]]
    study.open_slot("cpu-0")
    assert rows(study) == [["box", "running", "(head)", "9s", "1", "idle", "cpu"]]
    study.tell(ev.NodeQuarantined(node="box", reason="it throttles"), ev.NodeReleased(node="box"))
    assert rows(study)[0][:2] == ["box", "running"]
    study.tell(ev.ControllerStarted(epoch=2, pid=4712, node="other"))
    assert rows(study)[0][:3] == ["other", "running", "(head)"]
    assert rows(study)[1][:2] == ["box", "left"]


def test_a_refusal_is_told_for_ten_minutes_of_the_run_in_which_it_was() -> None:
    study = Study(slots=0)
    study.tell(ev.NodeRefused(node="worn", address="10.0.0.9", reason="no sandbox"))
    assert rows(study)[1][:2] == ["worn", "refused"]
    assert len(rows(study, is_running=False)) == 1
    study.now += timedelta(seconds=601)
    assert len(rows(study)) == 1
    study.tell(ev.NodeRefused(node="worn", address="10.0.0.9", reason="no sandbox"))
    assert rows(study)[1][:2] == ["worn", "refused"]
    study.tell(ev.ControllerStarted(epoch=2, pid=4712, node="box"))
    assert len(rows(study)) == 1


def test_status_counts_nodes_and_tells_what_is_wrong_with_them(user: User) -> None:
    said = user.done("status")
    assert "  1 joined, 1 quarantined, 1 refused" in said
    assert "beta quarantined: e1.1, e2.1, e3.1 failed here and passed elsewhere" in said
    assert "beta/cpu-0: beta is quarantined" not in said  # told once, of the node


def test_a_study_that_never_ran_has_no_nodes(tmp_path: Path) -> None:
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    said = "there is no node yet: they are listed once `incumbent run` is ready for trials\n"
    assert user.done("nodes") == said
    assert json.loads(user.done("nodes", "--json"))["nodes"] == []


def test_a_node_is_asked_to_leave(user: User) -> None:
    said = user.done("drain", "alpha")
    expected = "it finishes nothing, then leaves; `incumbent join` there brings it back\n"
    assert said == f"alpha is to drain: {expected}"
    assert state(user).nodes["alpha"].status is NodeStatus.DRAINING
    seq = state(user).seq
    assert user.done("drain", "alpha") == f"alpha drains already: {expected}"
    assert state(user).seq == seq
    asked = json.loads(user.done("drain", "beta", "--json"))
    assert asked == {"node": "beta", "requested": "drain", "running": 0}


def test_a_quarantined_node_is_released(user: User) -> None:
    said = user.done("nodes", "--release", "beta")
    assert said == "beta is released: it takes trials again, and what failed there is forgotten\n"
    assert state(user).nodes["beta"].status is NodeStatus.JOINED


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("drain", "delta"), "there is no node delta; there is: box, alpha, beta\n"),
        (("nodes", "--release", "delta"), "there is no node delta; there is: box, alpha, "),
        (("drain", "gamma"), "gamma is not there: it was refused: Ray 2.9.0, the study has 2.51.1"),
        (("drain", "box"), "box is where the study runs: `incumbent pause` begins no more trials"),
        (("nodes", "--release", "alpha"), "alpha is joined: there is nothing to release it from"),
    ],
)
def test_what_cannot_be_asked_of_a_node_is_refused(
    user: User, command: tuple[str, ...], problem: str
) -> None:
    seq = state(user).seq
    said = user.refused(USAGE, *command)
    assert said.startswith(f"error: {problem}")
    assert said.count("\n") == 1
    assert state(user).seq == seq


def test_a_node_that_has_left_cannot_be_drained(user: User) -> None:
    happen(user, ev.NodeLeft(node="alpha", reason="fell silent", is_silent=True))
    said = user.refused(USAGE, "drain", "alpha")
    assert said == "error: alpha is not there: it has left: fell silent\n"
