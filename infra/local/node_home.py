"""Where a machine keeps what belongs to a study that it joined. Owns these paths.

STATE/nodes/HASH/            one study of another machine, by its address and this one's name
    id                       what no other membership is called
    node.json                how things are; locked by the node process for as long as it lives
    settings.json            what the driver is told
    reports.jsonl            what the driver and the process reported, a line each
    driver.log ray.log       what they and Ray printed
    ray.token ray.json ray.ports    as in a study's own folder
    study-HASH/              the study's folder on this machine, in the sense of trainer.paths
STATE/envs/                  virtual environments of trials, shared with studies of this machine
"""

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from cluster.nodes.ray_cluster import PrivateRay
from infra.local.file_lock import is_locked, locked_soon
from infra.local.home import environments_directory, make_folder, runtime_for, state_directory


class Standing(StrEnum):
    """How it is with a node, as its own machine sees it."""

    STARTING = "starting"
    JOINED = "joined"
    WAITING = "waiting"  # for the head to be there
    LEAVING = "leaving"
    LEFT = "left"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What a node process tells of itself."""

    head: str
    node: str
    pid: int
    standing: Standing
    text: str = ""
    """What it is at, or why it is so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHome:
    """The paths of one membership."""

    head: str
    directory: Path

    @classmethod
    def locate(cls, head: str) -> "NodeHome":
        """Return the home of a membership; creates nothing.

        Machines may have one home directory, on a server: each has a membership of its own.
        """
        digest = hashlib.sha256(f"{head} {socket.gethostname()}".encode()).hexdigest()[:10]
        return cls(head=head, directory=state_directory() / "nodes" / digest)

    def create(self) -> None:
        """Make the folders, for this user alone; raises StudyProblem."""
        for path in (self.directory, self.empty):
            make_folder(path)
            path.chmod(0o700)

    @property
    def empty(self) -> Path:
        """An empty directory to run our own processes in."""
        return self.directory / "empty"

    @property
    def token(self) -> Path:
        """The study's token."""
        return self.directory / "ray.token"

    @property
    def settings(self) -> Path:
        """What the driver is told."""
        return self.directory / "settings.json"

    @property
    def reports(self) -> Path:
        """What was reported, as JSON lines."""
        return self.directory / "reports.jsonl"

    @property
    def driver_log(self) -> Path:
        """Whatever else the driver printed."""
        return self.directory / "driver.log"

    @property
    def environments(self) -> Path:
        """Virtual environments of trials."""
        return environments_directory()

    @property
    def lock(self) -> Path:
        """The node process's lock, with what it says of itself."""
        return self.directory / "node.json"

    def identity(self) -> str:
        """Return what this membership is called, now and after the machine was switched off.

        By that a study tells a machine that comes back from another one of its name.
        """
        path = self.directory / "id"
        if not (path.exists() and path.read_text("ascii")):
            path.write_text(secrets.token_hex(6), "ascii")
        return path.read_text("ascii")

    def runtime(self) -> Path:
        """Return the short-pathed folder for Ray's sockets: see `runtime_for`."""
        return runtime_for(self.directory)

    def ray(self) -> PrivateRay:
        """Return the Ray with which this machine joins the study's, whether or not it runs."""
        return PrivateRay(
            runtime=self.runtime(), directory=self.directory, empty=self.empty, head=self.head
        )

    def write_token(self, token: str) -> None:
        """Keep the token, for this user's eyes alone."""
        descriptor = os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)

    def status(self) -> NodeStatus | None:
        """Return what the node process says of itself; None if none runs."""
        try:
            with self.lock.open("r", encoding="utf-8") as file:
                if is_locked(file):
                    return _read(file.read(), self.head)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return None

    def last_status(self) -> NodeStatus | None:
        """Return what a node process said last, whether or not it still runs."""
        try:
            return _read(self.lock.read_text("utf-8"), self.head)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_status(self, status: NodeStatus) -> None:
        """Say how things are; by the holder of the lock."""
        # In place: a new file would not carry the lock.
        with self.lock.open("r+", encoding="utf-8") as file:
            file.write(json.dumps(asdict(status)) + "\n")
            file.truncate()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Be the one node process of this membership, if there is no other."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            if is_ours := locked_soon(file):
                file.truncate(0)  # what the last one said of itself is not so any more
            yield is_ours


def _read(text: str, head: str) -> NodeStatus:
    try:
        facts = json.loads(text)
        return NodeStatus(**{**facts, "standing": Standing(facts["standing"])})
    except (ValueError, TypeError, KeyError):  # it is only being written
        return NodeStatus(head=head, node="", pid=0, standing=Standing.STARTING)


def memberships() -> list[NodeHome]:
    """Return all studies that this machine has joined, also those that it has left, by folder."""
    root = state_directory() / "nodes"
    found = []
    for lock in sorted(root.glob("*/node.json")) if root.is_dir() else []:
        head = _read(lock.read_text("utf-8"), "").head
        home = NodeHome.locate(head)
        if head and home.directory == lock.parent:  # of this machine, not of one beside it
            found.append(home)
    return found
