"""Opens a study: its home, its server, its ledger. Shared by the controller and every command."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from cluster.ledger import load
from cluster.progress import ProgressStore
from cluster.redis_ledger import RedisLedger
from cluster.redis_queue import RedisTrialQueue
from cluster.redis_store import RedisStore, check_server, connect
from cluster.state import StudyState
from infra.embedded_server import EmbeddedServer
from infra.home import StudyHome


class Server:
    """The Redis of a study: the user's, by URL, or the embedded one."""

    def __init__(self, home: StudyHome, url: str) -> None:
        self._embedded = None if url else EmbeddedServer(home)
        self.url = url or EmbeddedServer(home).url

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
        path.touch(mode=0o600)
        path.write_text(url + "\n", "utf-8")
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
    """Open a study for a while; an embedded server that was started for it is stopped again."""
    server = Server(home, redis_url(home))
    client = server.ensure()
    try:
        yield join(home, server, client)
    finally:
        server.release(client)
