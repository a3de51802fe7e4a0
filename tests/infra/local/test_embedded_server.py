"""The embedded server: one at a time, found again, stopped by its last user."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import psutil
import pytest
import redis

from cluster.ledger.ledger import LedgerAway
from cluster.ledger.redis_store import client_name
from infra.local import embedded_server
from infra.local.embedded_server import EmbeddedServer, ServerFailed
from infra.local.file_lock import try_lock
from infra.local.home import StudyHome


@pytest.fixture
def home(tmp_path: Path) -> Iterator[StudyHome]:
    found = StudyHome(name="s", repository=tmp_path, directory=tmp_path / "study")
    found.create()
    yield found
    for process in servers(found):
        process.kill()
        process.wait()


def servers(home: StudyHome) -> list[psutil.Process]:
    socket = str(EmbeddedServer(home).socket)
    return [p for p in psutil.process_iter() if any(socket in word for word in cmdline(p))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        words = process.cmdline()
    except psutil.Error:
        return []
    return words if words and "valkey" in words[0] else []


def run_with_a_server(home: StudyHome, statement: str) -> int:
    """Run a statement over `server` in a process of its own; return its exit code."""
    program = (
        "import os, sys; from pathlib import Path; from infra.local.home import StudyHome; "
        "from infra.local.embedded_server import EmbeddedServer; "
        "home = StudyHome(name='s', repository=Path('/'), directory=Path(sys.argv[1])); "
        f"server = EmbeddedServer(home); {statement}"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(home.directory)], check=False
    ).returncode


def test_the_last_user_stops_it_and_the_next_finds_everything_again(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    first = server.ensure()
    first.set("key", "value")
    assert run_with_a_server(home, "server.release(server.ensure())") == 0
    assert len(servers(home)) == 1  # another user came and went
    server.release(first)
    psutil.wait_procs(servers(home), timeout=10)
    assert servers(home) == []
    again = server.ensure()
    assert again.get("key") == b"value"
    server.release(again)


def test_the_folder_of_its_socket_goes_with_it(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["folder"] * 20)
    home = StudyHome(name="s", repository=tmp_path, directory=deep)
    home.create()
    server = EmbeddedServer(home)
    runtime = home.runtime()
    assert not runtime.exists(), "who only looks makes none"
    first, second = server.ensure(), server.ensure()
    assert server.socket.parent == runtime
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert run_with_a_server(home, "server.release(server.ensure())") == 0
    assert server.socket.exists()
    second.close()
    server.release(first)
    assert not runtime.exists()


def test_a_process_that_ends_without_closing_closes_at_its_exit(home: StudyHome) -> None:
    assert run_with_a_server(home, "server.ensure(); sys.exit(3)") == 3
    psutil.wait_procs(servers(home), timeout=10)
    assert servers(home) == []


def test_what_is_left_by_one_that_is_killed_is_found_by_the_next(home: StudyHome) -> None:
    run_with_a_server(home, "server.ensure().set('key', 'value'); os._exit(3)")
    assert len(servers(home)) == 1
    server = EmbeddedServer(home)
    client = server.ensure()
    assert client.get("key") == b"value"
    server.release(client)
    psutil.wait_procs(servers(home), timeout=10)
    assert servers(home) == []


def test_a_connection_whose_process_is_dead_keeps_no_server_alive(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    client = server.ensure()
    dead = subprocess.Popen(["true"])
    left = redis.Redis.from_url(server.url)  # as the server sees it before it notices
    left.client_setname(client_name(dead.pid))
    dead.wait()
    server.release(client)
    psutil.wait_procs(servers(home), timeout=10)
    assert servers(home) == []
    left.close()


def test_a_connection_that_goes_before_its_name_was_read_keeps_no_server_alive(
    home: StudyHome,
) -> None:
    server = EmbeddedServer(home)
    client = server.ensure()
    hasty = socket.socket(socket.AF_UNIX)
    hasty.connect(str(server.socket))
    leaving = threading.Timer(0.05, hasty.close)
    leaving.start()
    server.release(client)
    leaving.join()
    psutil.wait_procs(servers(home), timeout=10)
    assert servers(home) == []


def test_it_is_known_to_have_stopped_and_kept_down_only_without_users(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(home)
    other = redis.Redis.from_url(server.url, client_name=client_name(os.getppid()))
    client = server.ensure()
    other.ping()
    server.release(client)
    with monkeypatch.context() as patched:
        patched.setattr(embedded_server, "LEAVE_S", 0.0)
        with server.kept_down() as is_down:
            assert not is_down
    other.close()
    server.release(server.ensure())
    with server.kept_down() as is_down, (home.redis / "lock").open() as lock:
        assert is_down
        assert servers(home) == []
        assert not try_lock(lock), "who comes now waits"


@pytest.mark.parametrize("is_begun_anew", [False, True])
def test_who_waits_while_a_study_is_set_aside_is_told_and_leaves_nothing(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch, *, is_begun_anew: bool
) -> None:
    server = EmbeddedServer(home)
    server.release(server.ensure())
    take_lock, waits = fcntl.flock, threading.Event()

    def flock(file: IO[str], kind: int) -> None:
        waits.set()
        take_lock(file, kind)

    with ThreadPoolExecutor() as pool:
        with server.kept_down() as is_down:
            assert is_down
            monkeypatch.setattr(fcntl, "flock", flock)
            coming = pool.submit(EmbeddedServer(home).ensure)
            assert waits.wait(timeout=30)
            home.set_aside("failed")
            if is_begun_anew:
                home.create()
        with pytest.raises(ServerFailed, match="set aside or moved away meanwhile"):
            coming.result(timeout=30)
    assert servers(home) == []
    assert home.directory.exists() == is_begun_anew


def test_one_whose_folder_was_removed_is_stopped_all_the_same(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    client = server.ensure()
    home.discard()
    server.release(client)
    psutil.wait_procs(servers(home), timeout=10)
    assert servers(home) == []
    assert not home.directory.exists()


def test_a_killed_server_and_its_stale_socket_are_replaced(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    client = server.ensure()
    client.set("key", "value")
    (process,) = servers(home)
    process.kill()
    psutil.wait_procs([process], timeout=10)
    assert server.socket.exists()
    fresh = server.ensure()
    assert fresh.get("key") == b"value"
    client.close()
    server.release(fresh)


def test_a_server_that_hangs_is_waited_for_and_never_doubled(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "SILENT_S", 0.5)
    monkeypatch.setattr(embedded_server, "ANSWER_S", 0.2)
    server = EmbeddedServer(home)
    client = server.ensure()
    (process,) = servers(home)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LedgerAway, match="lives, but does not answer"):
            server.ensure()
        assert [p.pid for p in servers(home)] == [process.pid]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    client.close()
    server.release(server.ensure())


def test_only_the_user_can_reach_it(home: StudyHome) -> None:
    server = EmbeddedServer(home)
    client = server.ensure()
    assert server.socket.stat().st_mode & 0o077 == 0
    assert home.directory.stat().st_mode & 0o077 == 0
    server.release(client)
