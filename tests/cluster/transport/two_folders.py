"""Two folders with a door in between: what trials left on a node, and what the head has of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.transport.depot import DepotActor
from cluster.transport.manifest import Manifest
from cluster.transport.remote_results import RemoteResults
from cluster.transport.shelf import read_manifest
from tests.cluster.fake_depot import FakeDepot
from trainer.paths import WorkerPaths
from trainer.trial import CommitId, ExperimentId, TrialId, TrialSpec

SPEC = TrialSpec(
    trial=TrialId("e4.1"),
    experiment=ExperimentId("e4"),
    attempt=1,
    commit=CommitId("0" * 40),
    seed=1,
    budget_s=1.0,
    timeout_s=1.0,
)

NAME = "e4.1-1"
BASE = CommitId("1" * 40)
Make = Callable[..., RemoteResults]


@pytest.fixture
def head(tmp_path: Path) -> WorkerPaths:
    return _paths(tmp_path / "head")


@pytest.fixture
def node(tmp_path: Path) -> WorkerPaths:
    return _paths(tmp_path / "node")


def _paths(study: Path) -> WorkerPaths:
    for folder in ("logs", "out"):
        (study / folder).mkdir(parents=True)
    return WorkerPaths(study=study, environments=study)


@pytest.fixture
def depot(head: WorkerPaths) -> FakeDepot:
    return FakeDepot(DepotActor(str(head.study), CommitId("0" * 40)))


@pytest.fixture
def make(depot: FakeDepot, node: WorkerPaths) -> Make:
    def make(**more: Any) -> RemoteResults:
        return RemoteResults(depot, node, node="n1", **{"base": BASE, **more})

    return make


def leave(node: WorkerPaths, files: dict[str, bytes], kind: str = "out") -> Path:
    folder = node.kept(kind, NAME)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def delivered(head: WorkerPaths, name: str = NAME) -> Manifest:
    found = read_manifest(head.returned(name))
    assert found is not None
    return found


def stayed(found: Manifest) -> dict[str, str]:
    return {each.name: each.stayed for each in found.files}
