"""`join` and `leave` as far as they go without a study to join; with one, see tests/end_to_end."""

import fcntl
import json
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from infra.node_home import NodeHome, NodeStatus, Standing, memberships
from infra.node_process import NodeProcess
from tests.infra.user import FAILURE, USAGE, User

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User.at(tmp_path)


@pytest.fixture
def home(user: User, monkeypatch: pytest.MonkeyPatch) -> NodeHome:
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    return NodeHome.locate(NOWHERE)


@pytest.mark.parametrize("head", ["rig", "rig:", "rig:port", "rig:70000", ":7700"])
def test_an_address_has_a_host_and_a_port(user: User, head: str) -> None:
    assert "is not HOST:PORT: `incumbent run --listen` prints" in user.refused(USAGE, "join", head)


def test_a_host_that_is_none_is_said(user: User) -> None:
    assert "there is no host no.such.host.invalid" in user.refused(
        USAGE, "join", "no.such.host.invalid:7700"
    )


@pytest.mark.parametrize("name", ["a/b", "-a", "a b", "x" * 64])
def test_a_name_is_one_that_slots_can_be_called_for(user: User, name: str) -> None:
    said = user.refused(USAGE, "join", NOWHERE, f"--name={name}")
    assert "is no name for a node: say --name" in said


def test_without_a_token_nothing_is_tried(user: User) -> None:
    assert "there is no token: say --token-file" in user.refused(USAGE, "join", NOWHERE)


def test_a_token_file_that_cannot_be_read_is_said(user: User) -> None:
    said = user.refused(USAGE, "join", NOWHERE, "--token-file", "no-such-file")
    assert "cannot read the token from no-such-file" in said


def test_a_first_joining_does_not_wait_for_a_head_that_is_not_there(
    user: User, home: NodeHome
) -> None:
    user.write({"token": "a" * 64 + "\n"})
    said = user.refused(FAILURE, "join", NOWHERE, "--token-file", "token")
    assert f"nobody answers at {NOWHERE}" in said
    assert "token can be read by others, and whoever has it can join: chmod 600 token" in said
    assert not home.directory.exists(), "no token is left where nothing was joined"


def test_what_belongs_to_a_membership_is_for_one_user_alone(home: NodeHome) -> None:
    home.create()
    home.write_token("a" * 64)
    assert home.token.stat().st_mode & 0o777 == 0o600
    assert home.directory.stat().st_mode & 0o777 == 0o700


def test_who_has_joined_nothing_can_leave_nothing(user: User) -> None:
    assert user.done("leave") == "this machine has joined no study\n"
    assert json.loads(user.done("leave", "--json")) == {"left": []}


def test_what_a_node_process_says_is_there_while_it_lives(home: NodeHome) -> None:
    home.create()
    assert home.status() is None
    status = NodeStatus(
        head=NOWHERE, node="rig", pid=4711, standing=Standing.JOINED, text="2 slots"
    )
    with home.held() as is_ours:
        assert is_ours
        home.write_status(status)
        assert home.status() == status
        with home.held() as is_ours_too:
            assert not is_ours_too
    assert home.status() is None
    assert home.last_status() == status


def test_who_asks_how_things_are_does_not_keep_a_node_process_from_starting(
    home: NodeHome,
) -> None:
    home.create()
    home.lock.touch()
    with home.lock.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.3, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        with home.held() as is_ours:
            assert is_ours


def test_a_membership_is_called_the_same_when_the_machine_comes_back(home: NodeHome) -> None:
    home.create()
    first = home.identity()
    assert len(first) == 12
    assert NodeHome.locate(NOWHERE).identity() == first
    assert NodeHome.locate("127.0.0.1:10").directory != home.directory


def test_machines_with_one_home_directory_have_memberships_of_their_own(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.create()
    with home.held():
        home.write_status(NodeStatus(head=NOWHERE, node="a", pid=1, standing=Standing.JOINED))
        assert [found.head for found in memberships()] == [NOWHERE]
        monkeypatch.setattr("socket.gethostname", lambda: "the-one-beside-it")
        assert NodeHome.locate(NOWHERE).directory != home.directory
        assert not memberships()


def test_a_head_that_is_away_for_a_night_is_reported_once(home: NodeHome) -> None:
    home.create()
    with home.held():
        process = NodeProcess(home, node="rig", slots=0)
        for _ in range(3):
            process._stand(Standing.WAITING, "nobody answers")
        process._stand(Standing.STARTING, "asking")
        process._stand(Standing.WAITING, "nobody answers")
    reports = [json.loads(line)["kind"] for line in home.reports.read_text().splitlines()]
    assert reports == ["waiting", "starting", "waiting"]


@pytest.mark.parametrize(("code", "stops"), [(3, 1), (1, 2)])
def test_a_head_that_is_silent_for_a_while_ends_no_ray_and_other_failures_do(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch, code: int, stops: int
) -> None:
    home.create()
    monkeypatch.setattr("infra.node_process.answers", lambda _: True)
    monkeypatch.setattr("infra.node_process.AGAIN_S", 0.0)
    codes, stopped = iter([code, code, 0]), []
    before = signal.getsignal(signal.SIGTERM)
    with home.held():
        process = NodeProcess(home, node="rig", slots=0)
        monkeypatch.setattr(process, "_drive", lambda: next(codes))
        monkeypatch.setattr(process._ray, "stop", lambda: stopped.append(1))
        assert process.run() == 0
    signal.signal(signal.SIGTERM, before)
    assert len(stopped) == stops, "the last one is that of leaving"


def test_a_disk_that_takes_no_reports_ends_no_node(home: NodeHome) -> None:
    home.create()
    home.reports.symlink_to("/dev/full")
    with home.held():
        process = NodeProcess(home, node="rig", slots=0)
        process._hear("problem", "there is no room")
        process._stand(Standing.WAITING, "nobody answers")
    status = home.last_status()
    assert status is not None
    assert status.standing is Standing.WAITING


def test_a_study_is_left_by_the_name_of_its_host(user: User, home: NodeHome) -> None:
    home.create()
    with home.held():
        home.write_status(NodeStatus(head=NOWHERE, node="rig", pid=0, standing=Standing.LEFT))
        assert f"127.0.0.1:10, but {NOWHERE}" in user.refused(USAGE, "leave", "localhost:10")


def test_what_a_killed_node_process_left_is_ended_by_leaving(user: User, home: NodeHome) -> None:
    home.create()
    with home.held():
        home.write_status(NodeStatus(head=NOWHERE, node="rig", pid=0, standing=Standing.JOINED))
    with subprocess.Popen(["sleep", "100"], cwd=home.empty, start_new_session=True) as orphan:
        created = psutil.Process(orphan.pid).create_time()
        facts = {"pid": orphan.pid, "created": created, "address": NOWHERE, "place": "x"}
        (home.directory / "ray.json").write_text(json.dumps(facts))
        assert "ended what was left of a node process" in user.done("leave")
        assert orphan.wait(10) < 0
    assert user.done("leave") == "this machine has joined no study\n"


def test_what_a_power_cut_left_is_cleared_by_leaving(user: User, home: NodeHome) -> None:
    home.create()
    with home.held():
        home.write_status(NodeStatus(head=NOWHERE, node="rig", pid=0, standing=Standing.JOINED))
    session = home.runtime() / "ray" / "session_2026"
    session.mkdir(parents=True)
    with subprocess.Popen(["true"]) as gone:
        pass
    facts = {"pid": gone.pid, "created": 0.0, "address": NOWHERE, "place": "x"}
    (home.directory / "ray.json").write_text(json.dumps(facts))
    assert "ended what was left of a node process" in user.done("leave", "--now")
    assert not session.exists()


def test_one_that_left_and_one_that_has_joined_are_told_apart(user: User, home: NodeHome) -> None:
    home.create()
    status = NodeStatus(head=NOWHERE, node="rig", pid=0, standing=Standing.LEFT)
    with home.held():
        home.write_status(status)
        said = user.refused(USAGE, "leave", "127.0.0.1:10")
        assert f"has not joined 127.0.0.1:10, but {NOWHERE}" in said
    assert user.done("leave") == "this machine has joined no study\n"
