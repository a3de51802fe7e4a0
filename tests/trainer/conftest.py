"""Real repositories for the tests of `trainer`, and a bench for its workers."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.trainer.worker_bench import SLOT, Bench, FakeCodeSource
from trainer.paths import WorkerPaths

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@localhost",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@localhost",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *args: str) -> str:
    """Run git as a user would."""
    return subprocess.run(
        ("git", *args),
        cwd=folder,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Research:
    """A bare repository, and a checkout from which commits are made."""

    bare: Path
    checkout: Path

    def commit(self, files: Mapping[str, str], *, executable: tuple[str, ...] = ()) -> str:
        """Write `files`, commit everything, and return the commit's id."""
        for name, text in files.items():
            path = self.checkout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if name in executable else 0o644)
        git(self.checkout, "add", "--all")
        git(self.checkout, "commit", "-qm", "change")
        return self.publish()

    def publish(self) -> str:
        """Hand HEAD over to the bare repository."""
        head = git(self.checkout, "rev-parse", "HEAD")
        git(self.checkout, "push", "-q", os.fspath(self.bare), f"HEAD:refs/incumbent/test/{head}")
        return head

    @classmethod
    def start(cls, folder: Path) -> "Research":
        """Make both, in `folder`."""
        git(folder, "init", "-q", "--bare", "repo.git")
        git(folder, "init", "-q", "checkout")
        return cls(bare=folder / "repo.git", checkout=folder / "checkout")


@pytest.fixture
def research(tmp_path: Path) -> Research:
    return Research.start(tmp_path)


@pytest.fixture
def as_user_git() -> Callable[..., str]:
    return git


@pytest.fixture
def bench(research: Research, tmp_path: Path) -> Bench:
    paths = WorkerPaths(study=tmp_path / "study", environments=tmp_path / "environments")
    return Bench(research=research, paths=paths, code=FakeCodeSource(research.bare))


@pytest.fixture
def until_ready(bench: Bench) -> str:
    """Shell code that waits for the next trial's files, which are seen in another run folder."""
    runs = bench.paths.run(SLOT.id, 0).parent
    return f"until [ $(ls {runs} | wc -l) = 2 ]; do sleep 0.01; done"
