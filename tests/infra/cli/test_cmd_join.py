"""`join` and `leave` as far as they go without a study to join; with one, see tests/end_to_end."""

import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from infra.cli.cmd_join import join
from infra.local.home import StudyProblem
from infra.local.node_home import NodeHome, NodeStatus, Standing, memberships
from infra.processes.joining import ask_to_leave, require_head
from infra.processes.node_process import NodeProcess, left_memberships
from tests.infra.user import FAILURE, PROGRAM, USAGE, User

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
    said = user.refused(USAGE, "join", "no.such.host.invalid:7700")
    assert "there is no host no.such.host.invalid" in said
    assert "Errno" not in said


@pytest.mark.parametrize("head", ["[fd00::1]:7700", "fd00::1:7700"])
def test_an_address_of_ipv6_is_refused(user: User, head: str) -> None:
    assert "fd00::1 is an IPv6 address, and machines join by IPv4 alone" in user.refused(
        USAGE, "join", head
    )


@pytest.mark.parametrize("name", ["a/b", "-a", "a b", "x" * 64])
def test_a_name_is_one_that_slots_can_be_called_for(user: User, name: str) -> None:
    said = user.refused(USAGE, "join", NOWHERE, f"--name={name}")
    assert "is no name for a node: say --name" in said


def test_without_a_token_nothing_is_tried(user: User) -> None:
    assert "there is no token: say --token-file" in user.refused(USAGE, "join", NOWHERE)


@pytest.mark.skipif(shutil.which("setsid") is None, reason="no setsid")
def test_at_a_terminal_the_token_is_asked_for_and_not_shown(user: User) -> None:
    token, (terminal, inner) = "5ec2e7" * 10, pty.openpty()
    join = subprocess.Popen(
        ["setsid", "--ctty", PROGRAM, "join", NOWHERE],
        cwd=user.folder,
        env=user.variables,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    shown = ""
    with suppress(OSError), os.fdopen(terminal, "r+b", buffering=0) as screen:
        while words := screen.read(1000):  # until the other end is closed, which is an OSError
            shown += words.decode()
            if shown.endswith("token of the study: "):
                screen.write(f"{token}\n".encode())
    assert join.wait(30) == FAILURE
    assert f"nobody answers at {NOWHERE}" in shown
    assert token not in shown


def test_a_token_file_that_cannot_be_read_is_said(user: User) -> None:
    said = user.refused(USAGE, "join", NOWHERE, "--token-file", "no-such-file")
    assert said == "error: cannot read the token from no-such-file: No such file or directory\n"
    (user.folder / "binary").write_bytes(b"\xff")
    said = user.refused(USAGE, "join", NOWHERE, "--token-file", "binary")
    assert "cannot read the token from binary: it is no text" in said
    said = user.refused(USAGE, "join", NOWHERE, "--token-file", "~no-one/token")
    assert said == "error: --token-file ~no-one/token: there is no such home folder\n"


def test_a_first_joining_does_not_wait_for_a_head_that_is_not_there(
    user: User, home: NodeHome
) -> None:
    user.write({"token": "a" * 64 + "\n"})
    said = user.refused(FAILURE, "join", NOWHERE, "--token-file", "token")
    assert f"nobody answers at {NOWHERE}" in said
    assert "or is it still being prepared (`incumbent status` there)?" in said
    assert "token can be read by others, and whoever has it can join: chmod 600 token" in said
    assert not home.directory.exists(), "no token is left where nothing was joined"


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x40\x00\x00"


@contextmanager
def listener(answer: bytes) -> Iterator[str]:
    """Somebody who answers everybody the same, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):  # it was closed
                while True:
                    kept.append(server.accept()[0])
                    kept[-1].sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("answer", [HTTP, b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_a_first_joining_does_not_wait_for_who_is_no_study(user: User, answer: bytes) -> None:
    user.write({"token": "a" * 64 + "\n"})
    with listener(answer) as head:
        said = user.refused(FAILURE, "join", head, "--token-file", "token")
    assert f"who listens at {head} is no study: say the address that" in said
    assert not list(Path(user.variables["INCUMBENT_HOME"]).glob("nodes/*")), "nothing is left"


def test_who_speaks_as_a_study_does_is_asked_further() -> None:
    with listener(SETTINGS) as head:
        require_head(head)


def test_a_study_that_was_never_met_is_not_waited_for(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, standing, said = driven_twice(home, monkeypatch)
    assert (code, standing) == (1, Standing.REFUSED)
    assert said.startswith("not that of a study; `incumbent status` on the head says whether")


def test_a_study_that_was_met_is_waited_for(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = driven_twice(home, monkeypatch, "starting Ray")
    assert found == (0, Standing.LEFT, "not that of a study")


def driven_twice(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch, *phases: str
) -> tuple[int, Standing, str]:
    """Have a driver find no study once, after these phases, and then leave; say how it ends."""
    home.create()
    monkeypatch.setattr("infra.processes.node_process.answers", lambda _: True)
    monkeypatch.setattr("infra.processes.node_process.AGAIN_S", 0.0)
    monkeypatch.setattr("infra.processes.node_process.FIRST_S", 0.0)
    codes = iter([3, 0])
    before = signal.getsignal(signal.SIGTERM)
    with home.held():
        process = NodeProcess(home, node="rig", slots=0)

        def drive() -> int:
            for phase in phases:
                process._hear("phase", phase)
            process._hear("away", "not that of a study")
            return next(codes)

        monkeypatch.setattr(process, "_drive", drive)
        code = process.run()
    signal.signal(signal.SIGTERM, before)
    status = home.last_status()
    assert status is not None
    return code, status.standing, status.text


def test_a_head_does_not_join_itself(user: User, home: NodeHome) -> None:
    with listener(SETTINGS) as reach:
        said = user.refused(USAGE, "join", reach, stdin="a" * 64)
    assert said.startswith(f"error: {reach} is this machine, and the slots of a study's head take")
    assert not home.directory.exists()


def test_more_slots_than_cores_are_not_taken_in_silence(
    user: User, home: NodeHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (user.folder / "token").write_text("a" * 64)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("infra.processes.joining.require_head", lambda _: None)
    monkeypatch.setattr("infra.processes.joining.begin", refuse)
    for slots, is_said in ((9, True), (2, False)):
        with pytest.raises(StudyProblem, match="goes no further"):
            join(NOWHERE, user.folder / "token", "rig", slots, detach=True)
        said = f"--slots {slots} is more than this machine's 2 cores"
        assert (said in capsys.readouterr().err) is is_said


def refuse(*_: object, **__: object) -> int:
    raise StudyProblem("it goes no further")


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


def test_only_memberships_of_which_nothing_lives_have_left_something(home: NodeHome) -> None:
    left, busy, killed = [NodeHome.locate(f"127.0.0.1:{port}") for port in (10, 11, 12)]
    with ExitStack() as stack:
        for each in (home, left, busy, killed):
            each.create()
            with each.held():
                here = NodeStatus(head=each.head, node="a", pid=1, standing=Standing.LEFT)
                each.write_status(here)
        stack.enter_context(busy.held())
        busy.write_status(NodeStatus(head=busy.head, node="a", pid=1, standing=Standing.JOINED))
        workers = subprocess.Popen(["sleep", "60"], cwd=killed.empty, start_new_session=True)
        stack.callback(workers.wait)
        stack.callback(workers.kill)
        created = psutil.Process(workers.pid).create_time()
        record = {"pid": workers.pid, "created": created, "address": "", "place": ""}
        (killed.directory / "ray.json").write_text(json.dumps(record))
        assert left_memberships(home) == (str(left.directory),)


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
    monkeypatch.setattr("infra.processes.node_process.answers", lambda _: True)
    monkeypatch.setattr("infra.processes.node_process.AGAIN_S", 0.0)
    codes, stopped = iter([code, code, 0]), []
    before = signal.getsignal(signal.SIGTERM)
    with home.held():
        process = NodeProcess(home, node="rig", slots=0)
        monkeypatch.setattr(process, "_drive", lambda: next(codes))
        monkeypatch.setattr(process._ray, "stop", lambda: stopped.append(1))
        assert process.run() == 0
    signal.signal(signal.SIGTERM, before)
    assert len(stopped) == stops, "the last one is that of leaving"


HANGING = """
import time
print('{"kind": "joined", "text": "1 slot"}', flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_node_that_leaves_waits_for_its_driver_only_while_the_head_is_there(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    home.create()
    monkeypatch.setattr("infra.processes.node_process._DRIVER", HANGING)
    monkeypatch.setattr("infra.processes.node_process.AGAIN_S", 0.05)
    monkeypatch.setattr("infra.processes.node_process.GONE_S", 1.0)
    with home.held():
        process = NodeProcess(home, node="rig", slots=0)
        asked: list[str] = []

        def answers(head: str) -> bool:
            asked.append(head)
            if len(asked) == 60:
                process._asked = 2  # at once, then
            return not is_cut

        monkeypatch.setattr("infra.processes.node_process.answers", answers)
        monkeypatch.setattr("infra.processes.node_process.LEAVE_S", 0.1)
        threading.Thread(target=lambda: ask_once_joined(process), daemon=True).start()
        assert process._drive() < 0
    assert (len(asked) < 60) is is_cut
    assert (process._ending == f"nobody answers at {NOWHERE}") is is_cut


def ask_once_joined(process: NodeProcess) -> None:
    while not process._has_joined:
        time.sleep(0.01)
    process._asked = 1


def test_who_asks_again_for_a_node_to_leave_does_not_hurry_it(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.create()
    hurried: list[int] = []
    monkeypatch.setattr("infra.processes.joining.os.kill", lambda pid, _: hurried.append(pid))
    for now in (False, True):
        with home.held():
            home.write_status(
                NodeStatus(head=NOWHERE, node="rig", pid=7, standing=Standing.LEAVING, text="x")
            )
            told = threading.Event()
            waiting = threading.Thread(
                target=ask_to_leave,
                args=(home, lambda _, told=told: told.set()),
                kwargs={"now": now},
                daemon=True,
            )
            waiting.start()
            assert told.wait(30)
        waiting.join(30)
        assert bool(hurried) is now


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


def test_what_a_node_is_at_that_leaves_is_told_once(home: NodeHome) -> None:
    home.create()
    told: list[str] = []
    thread = threading.Thread(
        target=ask_to_leave, args=(home, told.append), kwargs={"now": False}, daemon=True
    )
    with home.held():
        for text in ("finishing what runs", "handing in what 2 trials left"):
            home.write_status(
                NodeStatus(head=NOWHERE, node="rig", pid=0, standing=Standing.LEAVING, text=text)
            )
            if not thread.is_alive():
                thread.start()
            while text not in told:
                thread.join(0.01)
    thread.join(30)
    assert not thread.is_alive()
    assert told == ["finishing what runs", "handing in what 2 trials left"]


def test_one_that_left_and_one_that_has_joined_are_told_apart(user: User, home: NodeHome) -> None:
    home.create()
    status = NodeStatus(head=NOWHERE, node="rig", pid=0, standing=Standing.LEFT)
    with home.held():
        home.write_status(status)
        said = user.refused(USAGE, "leave", "127.0.0.1:10")
        assert f"has not joined 127.0.0.1:10, but {NOWHERE}" in said
    assert user.done("leave") == "this machine has joined no study\n"
