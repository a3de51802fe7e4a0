"""What the fleet does for the actors beside its workers, without a Ray to have them in."""

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.nodes.fleet import _Fleet
from cluster.nodes.fleet_settings import FleetSettings
from cluster.queue.brief import Refusal, Terms
from cluster.transport.manifest import Room
from eval.metric import Goal, Metric

REFUSAL = Refusal(node="rig", address="10.0.0.7", reason="no sandbox")


class Told:
    """An actor's handle that remembers what its methods were called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.asked: list[Asked] = []

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            def remote(*args: object) -> Asked:
                self.calls.append((method, args))
                self.asked.append(Asked())
                return self.asked[-1]

        return Method


class OneRefusal:
    """A board with word of one machine."""

    def __init__(self) -> None:
        self.posted: list[Mapping[str, str]] = []

    def take_refusals(self) -> list[Refusal]:
        return [REFUSAL]

    def post_names(self, names: Mapping[str, str]) -> None:
        self.posted.append(names)


class Asked:
    """What Ray returns for a call of the queue's `names`, which somebody else ends."""

    def __init__(self) -> None:
        self.answer: Future[Mapping[str, str]] = Future()

    def future(self) -> "Future[Mapping[str, str]]":
        return self.answer


@pytest.fixture
def fleet(tmp_path: Path) -> _Fleet:
    folder = str(tmp_path)
    settings = FleetSettings(
        study="s",
        name="mar5",
        url="unix:///none",
        directory=folder,
        runtime=folder,
        environments=folder,
        empty=folder,
        address="",
        listen="10.0.0.5:7700",
        slots=1,
        lease_s=30.0,
        terms=Terms(
            base="c" * 40,
            gpu_busy_mb=0.0,
            trial={"command": "./bench.sh", "budget_s": 5.0, "gpus": 0.0},
            metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)"),
            keep={"disk_gb": 7.0, "return_mb": 3.0},
        ),
    )
    return _Fleet(settings)


def test_a_depot_that_ray_has_started_again_learns_its_limits_and_the_queue_who_was_refused(
    fleet: _Fleet,
) -> None:
    depot, queue = Told(), Told()
    fleet._depot, fleet._queue = depot, queue
    fleet._board = OneRefusal()  # type: ignore[assignment]
    fleet._pinged = float("-inf")
    fleet.tend()
    assert depot.calls == [("adopt", (Room(bytes=3_000_000), 7.0))]
    assert queue.calls == [("ping", ()), ("refuse", (REFUSAL,)), ("names", ())]
    fleet.tend()
    assert len(depot.calls) == 1, "not at every look"


def test_the_board_says_which_names_are_taken_when_that_has_changed(
    fleet: _Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.nodes.fleet.NAMES_S", 0.0)
    queue, board = Told(), OneRefusal()
    fleet._depot, fleet._queue, fleet._board = Told(), queue, board  # type: ignore[assignment]
    fleet._pinged = float("inf")
    for names in ({"box": ""}, {"box": ""}, {"box": "", "rig": "a"}):
        fleet.tend()
        fleet.tend()  # while Ray starts the queue again, nobody asks it twice
        queue.asked[-1].answer.set_result(names)
        fleet.tend()
    assert queue.calls == [("names", ())] * 3
    assert board.posted == [{"box": ""}, {"box": "", "rig": "a"}]


def test_a_queue_that_died_instead_of_answering_is_asked_again(
    fleet: _Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.nodes.fleet.NAMES_S", 0.0)
    queue, board = Told(), OneRefusal()
    fleet._depot, fleet._queue, fleet._board = Told(), queue, board  # type: ignore[assignment]
    fleet._pinged = float("inf")
    fleet.tend()
    queue.asked[-1].answer.set_exception(ray.exceptions.ActorUnavailableError("", None))
    fleet.tend()
    fleet.tend()
    queue.asked[-1].answer.set_result({"box": ""})
    fleet.tend()
    assert board.posted == [{"box": ""}]
