"""Where everything of a study lies on this machine. Owns every path; no other module joins them.

STATE/studies/NAME-HASH/     one study of one repository
STATE/studies/NAME-HASH-failed-COMMIT/    what was there before it was begun anew
    study.json               what the study is: name, repository, schema version
    settings.json            the configuration that the controller was last started with
    ray.json ray.token ray.ports    of its own Ray: its process, its token, its ports if it listens
    repo.git                 the study's bare repository, which is authoritative
    redis/                   the embedded server's append-only file, configuration and log
    logs/ out/ worktrees/    of the trials and of what prepares them
    results.tsv progress.png progress.svg
    scratchpad.md            what proposers and people wrote down for each other
    calls/                   replies of models, mode 0600
    controller.log fleet.log final.log
STATE/envs/                  virtual environments of trials, by hash of their lock files
STATE/ports.lock             held while ports are chosen
RUNTIME/HASH/                sockets and Ray's temporary files: a socket's path must be short
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import IO

from platformdirs import user_config_path, user_state_path

from cluster.ledger.schema import SCHEMA_VERSION
from infra.local.checkout import main_checkout


class StudyProblem(RuntimeError):
    """A study directory that cannot be used, and what to do about it."""


def state_directory() -> Path:
    """Return where studies are kept: $INCUMBENT_HOME, or the platform's state directory.

    Raises StudyProblem where that begins with a home of nobody.
    """
    override = os.environ.get("INCUMBENT_HOME", "")
    try:
        return Path(override).expanduser().absolute() if override else user_state_path("incumbent")
    except RuntimeError as error:
        raise StudyProblem(f"INCUMBENT_HOME = {override}: there is no such home folder") from error


def environments_directory() -> Path:
    """Return where virtual environments of trials are, for all studies of this machine."""
    return state_directory() / "envs"


def make_folder(path: Path) -> None:
    """Make a folder of ours, and those above it; raises StudyProblem where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyProblem(
            f"{path} cannot be made: {error.strerror}. Have INCUMBENT_HOME, or else HOME, name a "
            "folder that you can write to"
        ) from error


def config_directory() -> Path:
    """Return where a user's own settings are, beside those of studies; creates nothing."""
    return user_config_path("incumbent")


def _runtime_directory() -> Path:
    """Return a directory of this user alone with a short path; raises StudyProblem."""
    path = Path(tempfile.gettempdir()) / f"incumbent-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StudyProblem(f"{path} must be a directory that only you can enter: remove it")
    return path


def runtime_for(directory: Path) -> Path:
    """Return the short-pathed folder for sockets of what lives in `directory`.

    Whoever puts something there makes it, with mode 0700, and removes it when nothing is left.
    """
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:10]
    return _runtime_directory() / digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHome:
    """The paths of one study."""

    name: str
    repository: Path
    """Top level of the user's repository: that of its main checkout."""
    directory: Path
    begun_as: str = ""
    """Id under which its ledger was begun, if it was set aside since; empty: its own."""

    @classmethod
    def locate(cls, repository: Path, name: str) -> "StudyHome":
        """Return the home of a study; creates nothing."""
        digest = hashlib.sha256(os.fsencode(repository)).hexdigest()[:8]
        directory = state_directory() / "studies" / f"{name}-{digest}"
        return cls(name=name, repository=repository, directory=directory)

    @classmethod
    def of(cls, checkout: Path, name: str) -> "StudyHome":
        """Return the home of the study of a checkout; linked worktrees are of one repository.

        One that an earlier version began in a linked worktree stays that worktree's own.
        """
        shared = cls.locate(main_checkout(checkout), name)
        own = cls.locate(checkout, name)
        return own if own.exists() and not shared.exists() else shared

    @classmethod
    def read(cls, directory: Path) -> "StudyHome":
        """Return the home in `directory`; raises StudyProblem if this program cannot read it."""
        try:
            facts = json.loads((directory / "study.json").read_text("utf-8"))
            home = cls(
                name=facts["name"],
                repository=Path(facts["repository"]),
                directory=directory,
                begun_as=facts.get("begun_as", ""),
            )
            schema = int(facts["schema"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyProblem(f"{directory} is not a study of Incumbent ({error})") from error
        if schema > SCHEMA_VERSION:
            raise StudyProblem(
                f"the study in {directory} was written by a newer Incumbent (schema {schema}; this "
                f"one reads up to {SCHEMA_VERSION}): update Incumbent to open it"
            )
        return home

    def create(self) -> None:
        """Make the directories, once.

        Raises StudyProblem where they cannot be made, or for a study of a newer program.
        """
        if self.exists():
            StudyHome.read(self.directory)
            return
        for path in (self.logs, self.out, self.worktrees, self.redis, self.empty):
            make_folder(path)
        self.directory.chmod(0o700)
        self._write({})

    def set_aside(self, why: str) -> "StudyHome":
        """Move it out of the way of a new beginning; return where it then is.

        From then on it is meant only where its whole id is said. Its server must have stopped.
        """
        self._write({"begun_as": self.ledger_id})
        name = f"{self.id}-{why}"
        taken = (self.directory.with_name(f"{name}-{again}") for again in count(2))
        free = next(p for p in chain([self.directory.with_name(name)], taken) if not p.exists())
        self.directory.rename(free)
        return replace(self, directory=free, begun_as=self.ledger_id)

    def discard(self) -> None:
        """Remove it with all that it holds. Its server must have stopped."""
        (self.directory / "study.json").unlink(missing_ok=True)  # first: a half is no study
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, more: Mapping[str, str]) -> None:
        facts = {"name": self.name, "repository": str(self.repository), "schema": SCHEMA_VERSION}
        write_atomically(
            self.directory / "study.json", json.dumps({**facts, **more}, indent=1) + "\n"
        )

    def folder(self) -> tuple[int, int] | None:
        """Return what tells its folder from one that takes its place; None if there is none."""
        try:
            found = self.directory.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def exists(self) -> bool:
        """Say whether the study was created."""
        return (self.directory / "study.json").exists()

    @property
    def id(self) -> str:
        """Name of the study on this machine: unique, and safe in keys and paths."""
        return self.directory.name

    @property
    def ledger_id(self) -> str:
        """What the keys of its ledger are named for."""
        return self.begun_as or self.id

    @property
    def is_set_aside(self) -> bool:
        """Say whether another study has taken its place."""
        return self.ledger_id != self.id

    @property
    def git(self) -> Path:
        """The bare repository."""
        return self.directory / "repo.git"

    @property
    def redis(self) -> Path:
        """Data of the embedded server."""
        return self.directory / "redis"

    @property
    def logs(self) -> Path:
        """Logs of trials."""
        return self.directory / "logs"

    @property
    def out(self) -> Path:
        """What trials leave in INCUMBENT_OUT."""
        return self.directory / "out"

    @property
    def worktrees(self) -> Path:
        """One linked worktree per slot."""
        return self.directory / "worktrees"

    @property
    def empty(self) -> Path:
        """An empty directory to run our own processes in, so that nothing is imported from it."""
        return self.directory / "empty"

    @property
    def settings(self) -> Path:
        """What the controller was last started with."""
        return self.directory / "settings.json"

    @property
    def ray_token(self) -> Path:
        """What lets a machine join, and whoever has it run code on all of them: mode 0600."""
        return self.directory / "ray.token"

    @property
    def scratchpad(self) -> Path:
        """What proposers and people wrote down for each other."""
        return self.directory / "scratchpad.md"

    @property
    def calls(self) -> Path:
        """Replies of models, one file each."""
        return self.directory / "calls"

    @property
    def controller(self) -> Path:
        """Lock file of the controller; holds its pid, host and metrics address."""
        return self.directory / "controller.json"

    @property
    def controller_log(self) -> Path:
        """Log of the controller."""
        return self.directory / "controller.log"

    @property
    def fleet_log(self) -> Path:
        """Log of the process that talks to Ray."""
        return self.directory / "fleet.log"

    @property
    def final(self) -> Path:
        """Lock file of the process of a final run; holds its pid."""
        return self.directory / "final.pid"

    @property
    def final_order(self) -> Path:
        """What that process was asked for."""
        return self.directory / "final.json"

    @property
    def final_log(self) -> Path:
        """Its log."""
        return self.directory / "final.log"

    @property
    def results(self) -> Path:
        """The table in autoresearch's format."""
        return self.directory / "results.tsv"

    def picture(self, suffix: str) -> Path:
        """Return the path of the progress picture, `png` or `svg`."""
        return self.directory / f"progress.{suffix}"

    @property
    def environments(self) -> Path:
        """Virtual environments of trials, shared by all studies."""
        return self.directory.parent.parent / "envs"

    def runtime(self) -> Path:
        """Return the short-pathed directory for sockets and Ray's files: see `runtime_for`."""
        return runtime_for(self.directory)


def studies() -> list[StudyHome]:
    """Return all studies on this machine that this program can read, by name."""
    root = state_directory() / "studies"
    found = []
    for directory in sorted(root.glob("*/study.json")) if root.is_dir() else []:
        try:
            found.append(StudyHome.read(directory.parent))
        except StudyProblem:
            continue
    return found


@contextmanager
def written_atomically(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Replace a file as a whole: it holds what it held until all is written and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # it would keep its mode
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace a file by a text, as `written_atomically` does."""
    with written_atomically(path, mode=mode) as file:
        file.write(text.encode())
