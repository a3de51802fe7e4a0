"""A depot in this process, over real git; a test may have it be away, or lie."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.transport.depot import DepotActor
from cluster.transport.node_repository import NodeRepository
from cluster.transport.remote_code import RemoteCode
from tests.cluster.fake_depot import FakeDepot
from tests.trainer.conftest import Research, git
from trainer.trial import CommitId

FILES = {"train.py": "RATE = 0.5\n" + "# a line like many others\n" * 500, "data/x.txt": "x"}


@pytest.fixture
def research(tmp_path: Path) -> Research:
    (tmp_path / "study").mkdir()
    git(tmp_path / "study", "init", "-q", "--bare", "repo.git")
    git(tmp_path, "init", "-q", "checkout")
    return Research(bare=tmp_path / "study" / "repo.git", checkout=tmp_path / "checkout")


Remote = Callable[..., RemoteCode]


@pytest.fixture
def base(research: Research) -> CommitId:
    return CommitId(research.commit(FILES))


@pytest.fixture
def depot(research: Research, base: CommitId) -> FakeDepot:
    return FakeDepot(DepotActor(str(research.bare.parent), base))


@pytest.fixture
def remote(tmp_path: Path, depot: FakeDepot, base: CommitId) -> Remote:
    def make(most_kept: int = 512, **seconds: float) -> RemoteCode:
        here = NodeRepository(tmp_path / "node" / "repo.git", pinned=base, most_kept=most_kept)
        return RemoteCode(depot, here, **seconds)

    return make


def show(repository: Path, commit: CommitId, name: str = "train.py") -> str:
    return git(repository, "show", f"{commit}:{name}") + "\n"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def candidate(research: Research, number: int) -> CommitId:
    text = FILES["train.py"].replace("0.5", f"0.{number:04}")
    return CommitId(research.commit({"train.py": text}))
