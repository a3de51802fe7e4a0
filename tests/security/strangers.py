"""What somebody on the network, without the study's token, gets from each port of its machines.

Runs on the stranger's machine: `python -m tests.security.strangers` reads ports and tokens as JSON
from standard input, and prints what came of asking as JSON.
"""

import importlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.security.grpc_probe import Answer, ask

CONTROLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)
"""Calls that only read, one of each of Ray's services: with the token they are answered."""
_UNLISTED = tuple(f"/ray.rpc.ObjectManagerService/{name}" for name in ("Push", "Pull"))
"""Calls that Ray has in its servers, and of which it tells nothing in Python."""
PAGES = (
    "GET /",
    "GET /metrics",
    "GET /api/version",
    "GET /api/jobs/",
    "POST /api/jobs/",
    "POST /api/job_agent/jobs/",
    "POST /get_or_create_runtime_env",
    "POST /delete_runtime_env_if_possible",
)
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port on which a study's machine listens."""

    machine: str
    address: str
    port: int
    owner: str
    """Name of the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one port gave to somebody with this token."""

    port: Port
    token: str
    """`none`, `wrong` or `right`."""
    is_reached: bool
    calls: Sequence[str]
    """Calls of gRPC that were answered."""
    pages: Sequence[str]
    """Pages that were answered with success."""
    redis: bool
    """It is a Redis that answers."""

    @property
    def gave(self) -> str:
        """Say in a word what it gave."""
        if not self.is_reached:
            return "not reached"
        given = [*self.calls, *self.pages, *(["redis"] if self.redis else [])]
        return f"{len(given)} answers" if given else "refused"


def methods() -> list[str]:
    """Return every call that any of Ray's services has."""
    folder = importlib.import_module("ray.core.generated").__path__[0]
    found = list(_UNLISTED)
    for file in sorted(Path(folder).glob("*_pb2.py")):
        module = importlib.import_module(f"ray.core.generated.{file.stem}")
        for service in module.DESCRIPTOR.services_by_name.values():
            found += [f"/{service.full_name}/{method.name}" for method in service.methods]
    return found


def probe(ports: Sequence[Port], tokens: Mapping[str, str]) -> Iterator[Finding]:
    """Ask each port everything, with each token; with the right one only what does no harm."""
    every = methods()
    for port in ports:
        for name, token in tokens.items():
            yield _finding(port, name, token, CONTROLS if name == "right" else every)


def _finding(port: Port, name: str, token: str, calls: Sequence[str]) -> Finding:
    address = port.address, port.port
    is_reached = _request(address, b"") is not None
    answered = [
        call
        for call in (calls if is_reached else ())
        if ask(address, call, token=token, timeout_s=_PATIENCE_S) is Answer.MESSAGE
    ]
    pages = [page for page in (PAGES if is_reached else ()) if _succeeds(address, page, token)]
    is_redis = is_reached and (_request(address, b"PING\r\n") or b"").startswith((b"+", b"-"))
    return Finding(
        port=port, token=name, is_reached=is_reached, calls=answered, pages=pages, redis=is_redis
    )


def _succeeds(address: tuple[str, int], page: str, token: str) -> bool:
    """Say whether a page does not refuse who asks; that it finds a fault with what is asked will
    do."""
    said = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"{page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n{said}\r\n"
    answer = _request(address, head.encode()) or b""
    words = answer.split(b" ", 2)
    return words[0].startswith(b"HTTP/1.") and words[1] not in {b"401", b"403"}


def _request(address: tuple[str, int], data: bytes) -> bytes | None:
    """Return the first of what comes back; None if there is no connection."""
    try:
        with socket.create_connection(address, _PATIENCE_S) as connection:
            connection.settimeout(_PATIENCE_S)
            if not data:
                return b""
            try:
                connection.sendall(data)
                return connection.recv(4096)
            except OSError:
                return b""
    except OSError:
        return None


def table(findings: Sequence[Finding]) -> str:
    """Return who got what, a line a port."""
    rows = [("machine", "port", "process", "without a token", "wrong token", "token")]
    for port in dict.fromkeys(finding.port for finding in findings):
        gave = {finding.token: finding.gave for finding in findings if finding.port == port}
        words = (gave["none"], gave["wrong"], gave["right"])
        rows.append((port.machine, str(port.port), port.owner, *words))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main() -> None:
    """Probe what standard input names."""
    asked = json.load(sys.stdin)
    found = probe([Port(**port) for port in asked["ports"]], asked["tokens"])
    json.dump([asdict(finding) for finding in found], sys.stdout)


if __name__ == "__main__":
    main()
