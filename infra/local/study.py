"""Opens a study: its home, its server, its ledger. Shared by the controller and every command."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from cluster.ledger.ledger import LedgerAway, load
from cluster.ledger.patience import AWAY_S
from cluster.ledger.progress import ProgressStore
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, check_server, connect
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state.state import StudyState
from infra.local.controller_process import find_controller
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome, write_atomically


class Server:
    """The Redis of a study: the user's, by URL, or the embedded one."""

    def __init__(self, home: StudyHome, url: str) -> None:
        self._embedded = None if url else EmbeddedServer(home)
        self.url = self._embedded.url if self._embedded else url

    def ensure(self) -> redis.Redis:
        """Return a client of a server that answers; starts the embedded one.

        Raises:
            LedgerAway, WrongServer: the user's server is not there, or is unfit.
            ServerFailed: the embedded one does not start.
        """
        if self._embedded is not None:
            return self._embedded.ensure()
        client = connect(self.url)
        check_server(client, self.url)
        return client

    def revive(self) -> None:
        """Bring the embedded server back if it has died; a user's server is only waited for."""
        if self._embedded is not None:
            self._embedded.ensure().close()

    def release(self, client: redis.Redis) -> None:
        """Close a client; the embedded server stops with its last one."""
        if self._embedded is not None:
            self._embedded.release(client)
        else:
            client.close()

    @contextmanager
    def kept_down(self) -> Iterator[bool]:
        """Say whether no server has the study's files, nor gets them before this ends."""
        if self._embedded is None:
            yield True
            return
        with self._embedded.kept_down() as is_down:
            yield is_down


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """A study with a connection to its store."""

    home: StudyHome
    server: Server
    client: redis.Redis
    store: RedisStore
    ledger: RedisLedger
    queue: RedisTrialQueue
    progress: ProgressStore

    def state(self) -> StudyState:
        """Return the state as of now."""
        return load(self.ledger)


def redis_url(home: StudyHome) -> str:
    """Return the URL that the study was created with; empty for the embedded server."""
    try:
        return (home.directory / "redis.url").read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


def remember_redis_url(home: StudyHome, url: str) -> None:
    """Note the URL for commands that read no configuration. It may hold a password: mode 0600."""
    path = home.directory / "redis.url"
    if url:
        write_atomically(path, url + "\n", mode=0o600)
    else:
        path.unlink(missing_ok=True)


def join(home: StudyHome, server: Server, client: redis.Redis) -> OpenStudy:
    """Put the stores of a study together over one client."""
    store = RedisStore(client, home.ledger_id)
    return OpenStudy(
        home=home,
        server=server,
        client=client,
        store=store,
        ledger=RedisLedger(store),
        queue=RedisTrialQueue(store),
        progress=ProgressStore(store),
    )


@contextmanager
def opened(home: StudyHome) -> Iterator[OpenStudy]:
    """Open a study for a while; an embedded server that was started for it is stopped again.

    Raises what Server.ensure raises; LedgerAway, here and from what is done meanwhile, with what
    that means for a study that runs.
    """
    server = Server(home, redis_url(home))
    try:
        client = server.ensure()
        try:
            yield join(home, server, client)
        finally:
            server.release(client)
    except LedgerAway as error:
        raise LedgerAway(f"{error}{_meanwhile(home)}") from error


def _meanwhile(home: StudyHome) -> str:
    """Say how a study fares whose server does not answer; nothing if it does not run."""
    controller = find_controller(home)
    if controller is None:
        return ""
    return (
        f". The study {home.name} runs, and waits for it: trials go on, workers hold their results "
        f"and hand them in once it is back. Its controller (process {controller.pid}) ends if that "
        f"takes more than {AWAY_S:.0f} s; `incumbent run` then goes on"
    )
