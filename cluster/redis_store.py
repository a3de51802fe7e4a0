"""One study's keys in a Redis or Valkey server, and the scripts over them. The edge to redis-py.

Every change of several keys is one Lua script (see `lua/`), so the store is never half changed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from cluster.ledger import Fenced, LedgerAway

LEAST_VERSION = (6, 2)
SCRIPTS = (
    *("append", "put", "lease", "reserve", "extend", "end", "cancel", "answer", "mode", "land"),
    *("renew", "holding"),
)
KEYS = ("meta", "events", "ids", "ready", "specs", "leases", "expiry", "answers", "reserved")

_NO_WRITES = ("LOADING", "READONLY", "MISCONF", "MASTERDOWN", "OOM", "NOREPLICAS", "BUSY")
"""How a server begins its answer that cannot take a write for the time being."""

Arg = str | bytes | int | float


class WrongServer(RuntimeError):
    """A server that cannot hold a ledger, and what to do about it."""


def connect(url: str, *, patience_s: float = 5.0, answer_s: float = 10.0) -> redis.Redis:
    """Return a client for `url` (redis://, rediss:// or unix://), without connecting yet.

    A connection may take `patience_s` seconds, and is made again if it breaks; a command may take
    `answer_s`. One that takes longer is not sent again: whoever asked may ask again.
    """
    again = (redis.exceptions.ConnectionError,)
    return redis.Redis.from_url(
        url,
        socket_timeout=answer_s,
        socket_connect_timeout=patience_s,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=2, supported_errors=again),
        protocol=2,
        client_name=client_name(),
    )


def client_name(pid: int | str | None = None) -> str:
    """Return what the server knows a process's connections by; None is this process."""
    return f"incumbent-{os.getpid() if pid is None else pid}"


def check_server(client: redis.Redis, url: str) -> None:
    """Raise WrongServer for a server that is too old, LedgerAway for one that is not there."""
    where = without_password(url)
    with translated(where):
        info = client.info("server")
    text = str(info.get("redis_version", "0"))
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise WrongServer(
            f"the server at {where} is Redis {text}; Incumbent needs {least} or newer "
            "(or leave [cluster] redis empty to use the embedded server)"
        )


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", url)


@contextmanager
def translated(where: str = "the ledger's server") -> Iterator[None]:
    """Turn redis-py's exceptions into those of the ports."""
    try:
        yield
    except redis.exceptions.ResponseError as error:
        if "FENCED" in str(error):
            raise Fenced("another controller has taken over this study") from error
        if str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            raise WrongServer(f"{where} refuses the credentials in its URL: {error}") from error
        if str(error).startswith(_NO_WRITES):
            raise LedgerAway(f"{where} takes no writes: {error}") from error
        raise
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise LedgerAway(f"{where} does not answer: {error}") from error


class RedisStore:
    """The keys of one study, and its scripts."""

    def __init__(self, client: redis.Redis, study: str, part: str = "") -> None:
        self.client = client
        self.study = study
        self.prefix = f"incumbent:{{{study}}}:{part}"
        self.keys = [self.key(name) for name in KEYS]
        """Full names of `KEYS`, in their order."""
        prelude = _script("record")
        self._scripts = {
            name: client.register_script(f"{prelude}\n{_script(name)}") for name in SCRIPTS
        }

    def key(self, name: str) -> str:
        """Return the full name of one of the study's keys."""
        return self.prefix + name

    def staging(self) -> "RedisStore":
        """Return an empty store beside this one, whose keys `land` puts in the place of ours."""
        staged = RedisStore(self.client, self.study, "staged:")
        with translated():
            self.client.delete(*staged.keys)  # what an import left behind that was killed
        return staged

    def land(self, staged: "RedisStore") -> bool:
        """Take over what is staged, at one go; False, and nothing has changed, unless empty."""
        with translated():
            return bool(self._scripts["land"](keys=[*self.keys, *staged.keys], args=[]))

    def run(self, script: str, *args: Arg) -> object:
        """Run one of `SCRIPTS`; raises Fenced or LedgerAway."""
        with translated():
            return self._scripts[script](keys=self.keys, args=list(args))


def _script(name: str) -> str:
    return resources.files("cluster").joinpath("lua", f"{name}.lua").read_text("utf-8")
