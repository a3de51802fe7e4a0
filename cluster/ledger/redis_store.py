"""One study's keys in a Redis or Valkey server, and the scripts over them. The edge to redis-py.

Every change of several keys is one Lua script (see `lua/`), so the store is never half changed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from cluster.ledger.ledger import LOST_DATA, ROLLED_BACK, Emptied, Fenced, LedgerAway, RolledBack
from cluster.ledger.redis_problems import hint, obstacle, refusal
from cluster.ledger.redis_url import named_files, shown, taken_apart

LEAST_VERSION = (6, 2)
SCRIPTS = (
    *("append", "put", "lease", "reserve", "extend", "end", "cancel", "answer", "mode", "land"),
    *("renew", "holding", "tell"),
)
KEYS = ("meta", "events", "ids", "ready", "specs", "leases", "expiry", "answers", "reserved")

_FENCES = {
    "FENCED": (Fenced, "another controller has taken over this study"),
    "EMPTIED": (Emptied, LOST_DATA),
    "ROLLEDBACK": (RolledBack, ROLLED_BACK),
}
_NO_WRITES = re.compile(r"(^|: -?)(LOADING|READONLY|MISCONF|MASTERDOWN|OOM|NOREPLICAS|BUSY) ")
"""What a server's answer has in it that cannot take a write for the time being.

Redis 6.2 puts before it which script failed and where, redis-py which command of a pipeline.
"""
_NO_WRITES_KINDS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
)
"""What redis-py makes of some of these, and takes the word away."""

Arg = str | bytes | int | float


class WrongServer(RuntimeError):
    """A server that cannot hold a ledger, and what to do about it."""


def connect(url: str, *, patience_s: float = 5.0, answer_s: float = 10.0) -> redis.Redis:
    """Return a client for `url` (redis://, rediss:// or unix://), without connecting yet.

    A connection may take `patience_s` seconds, and is made again if it breaks; a command may take
    `answer_s`. One that takes longer is not sent again: whoever asked may ask again.
    """
    again = (redis.exceptions.ConnectionError,)
    plain, password_file = taken_apart(url)
    return redis.Redis.from_url(
        plain,
        socket_timeout=answer_s,
        socket_connect_timeout=patience_s,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=2, supported_errors=again),
        protocol=2,
        client_name=client_name(),
        **({"password": _password(password_file)} if password_file else {}),
    )


def _password(path: str) -> str:
    """Read a password; raises WrongServer if it is not there, or others may read it."""
    try:
        if Path(path).stat().st_mode & 0o077:
            raise WrongServer(f"{path} can be read by others: chmod 600 {path}")
        return Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise WrongServer(f"the password_file {path} cannot be read ({error})") from error


def client_name(pid: int | str | None = None) -> str:
    """Return what the server knows a process's connections by; None is this process."""
    return f"incumbent-{os.getpid() if pid is None else pid}"


def check_server(client: redis.Redis, url: str) -> None:
    """Raise WrongServer for a server that is unfit, LedgerAway for one that is not there."""
    where = shown(url)
    for name, path in named_files(url):
        if not os.access(path, os.R_OK):
            raise WrongServer(f"[cluster] redis names {path} for {name}, which cannot be read")
    try:
        with translated(where):
            info = {**client.info("server"), **client.info("memory")}
    except LedgerAway as error:
        raise LedgerAway(f"{error}{hint(url, str(error))}") from error
    text = str(info.get("redis_version", "0"))
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise WrongServer(
            f"the server at {where} is Redis {text}; Incumbent needs {least} or newer "
            "(or leave [cluster] redis empty to use the embedded server)"
        )
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        raise WrongServer(
            f"the server at {where} throws keys away when its memory is full ({policy}), a ledger "
            "as well: set its maxmemory-policy to noeviction"
        )


@contextmanager
def translated(where: str = "the ledger's server") -> Iterator[None]:
    """Turn redis-py's exceptions into those of the ports."""
    try:
        yield
    except redis.exceptions.RedisError as error:
        meaning = _meaning(error, where)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(error: redis.exceptions.RedisError, where: str) -> Exception | None:
    """Return the port's exception for one of redis-py's; None for a defect of ours."""
    text = str(error)
    for sign, (kind, words) in _FENCES.items():
        if sign in text:
            return kind(words)
    if words := refusal(text) or obstacle(text):
        return WrongServer(f"{where} {words}")
    if isinstance(error, _NO_WRITES_KINDS) or _NO_WRITES.search(text):
        return LedgerAway(f"{where} takes no writes: {text}")
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return LedgerAway(f"{where} does not answer: {text}")
    return None


class RedisStore:
    """The keys of one study, and its scripts."""

    def __init__(self, client: redis.Redis, study: str, part: str = "") -> None:
        self.client = client
        self.study = study
        self.prefix = f"incumbent:{{{study}}}:{part}"
        self.keys = [self.key(name) for name in KEYS]
        """Full names of `KEYS`, in their order."""
        self.seen: tuple[int, str] = (0, "")
        """Number and id of the latest event that was read: what is written follows from it."""
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

    def claim(self, epoch: int) -> str:
        """Return what a controller's scripts are fenced by: see lua/record.lua."""
        seq, event_id = self.seen
        return f"{epoch} {seq} {event_id}"

    def run(self, script: str, *args: Arg) -> object:
        """Run one of `SCRIPTS`; raises Fenced or LedgerAway."""
        with translated():
            return self._scripts[script](keys=self.keys, args=list(args))


def _script(name: str) -> str:
    return resources.files("cluster.ledger").joinpath("lua", f"{name}.lua").read_text("utf-8")
