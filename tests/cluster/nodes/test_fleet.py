"""What the fleet does for the actors beside its workers, without a Ray to have them in."""

from pathlib import Path
from typing import Any

import pytest

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

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            def remote(*args: object) -> None:
                self.calls.append((method, args))

        return Method


class OneRefusal:
    """A board with word of one machine."""

    def take_refusals(self) -> list[Refusal]:
        return [REFUSAL]


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
    assert queue.calls == [("ping", ()), ("refuse", (REFUSAL,))]
    fleet.tend()
    assert len(depot.calls) == 1, "not at every look"
