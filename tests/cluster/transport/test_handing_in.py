"""A node that leaves hands in what its trials left, whoever ran them, while the head takes it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.transport.depot import DepotActor
from cluster.transport.handing_in import HandingIn
from cluster.transport.remote_code import LACK
from cluster.transport.remote_results import RemoteResults
from cluster.transport.shelf import read_manifest
from tests.cluster.fake_depot import FakeDepot, away
from trainer.paths import WorkerPaths
from trainer.trial import CommitId

BASE = CommitId("1" * 40)
NAMES = ("e4.1-1", "e5.1-1")


class Scene:
    """A node whose workers have ended and left something, and its head."""

    def __init__(self, folder: Path) -> None:
        self.head, self.node = (_paths(folder / name) for name in ("head", "node"))
        self.depot = FakeDepot(DepotActor(str(self.head.study), BASE))
        self.said: list[tuple[str, str]] = []
        self.senders: list[RemoteResults] = []
        self.node.unsent.mkdir()
        for name in NAMES:
            (self.node.unsent / name).write_text(BASE)
            out = self.node.kept("out", name)
            out.mkdir()
            (out / "model.pt").write_bytes(b"weights")

    def handing_in(self, silent_s: float = 60.0) -> HandingIn:
        results = RemoteResults(self.depot, self.node, node="rig", base=BASE, others_s=0.0)
        self.senders.append(results)
        return HandingIn(
            results, lambda kind, text: self.said.append((kind, text)), silent_s=silent_s
        )

    def close(self) -> None:
        """End the threads: they would go on trying, in the midst of other tests."""
        for sender in self.senders:
            sender.close()

    def has(self, name: str) -> bool:
        return read_manifest(self.head.returned(name)) is not None


def _paths(study: Path) -> WorkerPaths:
    for folder in ("logs", "out"):
        (study / folder).mkdir(parents=True)
    return WorkerPaths(study=study, environments=study)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_not_over_until_all_of_it_is_on_the_head(scene: Scene) -> None:
    gate = threading.Event()
    scene.depot.before = lambda _: gate.wait(60) and None
    handing_in = scene.handing_in()
    assert not handing_in.is_over()
    assert scene.said == [("phase", "handing in what 2 trials left")]
    gate.set()
    until(handing_in.is_over)
    assert all(scene.has(name) for name in NAMES)


def test_a_head_that_answers_again_still_gets_it(scene: Scene) -> None:
    scene.depot.before = away
    handing_in = scene.handing_in()
    until(lambda: not handing_in.is_over() and LACK in scene.said[-1][1])
    scene.depot.before = lambda _: None
    until(handing_in.is_over)
    assert all(scene.has(name) for name in NAMES)


def test_a_head_that_stays_silent_is_not_waited_for_and_what_stays_is_said(scene: Scene) -> None:
    scene.depot.before = away
    handing_in = scene.handing_in(silent_s=0.1)
    until(handing_in.is_over)
    kind, text = scene.said[-1]
    assert kind == "problem"
    assert text == "what 2 trials left stays here until this machine joins again"
    assert {path.name for path in scene.node.unsent.iterdir()} == {*NAMES}


def test_what_cannot_be_sent_at_all_keeps_no_node_from_leaving(scene: Scene) -> None:
    def before(name: str) -> None:
        if name == "begin":
            raise RuntimeError("nobody has thought of that")

    scene.depot.before = before
    until(scene.handing_in().is_over)
    assert scene.said[-1] == (
        "problem",
        "what 2 trials left stays here until this machine joins again",
    )


def test_who_left_nothing_leaves_at_once(scene: Scene) -> None:
    for path in scene.node.unsent.iterdir():
        path.unlink()
    assert scene.handing_in().is_over()
    assert not scene.said


def test_what_is_sent_while_the_rest_is_counted_does_not_pass_for_all(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = RemoteResults(scene.depot, scene.node, node="rig", base=BASE, others_s=-1.0)
    assert results.unsent() == [*NAMES]
    looked_at: list[Path] = []
    stat = Path.stat

    def sent_this_moment(path: Path, **more: bool) -> os.stat_result:
        if path.parent == scene.node.unsent:
            looked_at.append(path)
            if path == looked_at[0]:
                path.unlink()
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", sent_this_moment)
    (rest,) = results.unsent()
    assert looked_at[0].name not in {rest, *results.unsent()}
