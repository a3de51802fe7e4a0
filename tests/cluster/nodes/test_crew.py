"""Which workers of an earlier controller may go on, and what becomes of those that end badly."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster.ledger.codec import from_json, to_json
from cluster.nodes import crew as crew_module
from cluster.nodes.crew import Crew, Post, duties
from cluster.queue.brief import Terms, Versions
from eval.metric import Goal, Metric
from trainer.paths import WorkerPaths

OURS = Versions.ours()
METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)")
TERMS = Terms(
    base="c" * 40,
    gpu_busy_mb=500.0,
    trial={"command": "./bench.sh"},
    metric=METRIC,
)


def test_workers_that_would_do_the_same_are_adopted() -> None:
    posted = from_json(Terms, to_json(TERMS))
    assert duties(TERMS, OURS, 2) == duties(posted, OURS, 2)
    assert duties(TERMS, OURS, 2) != duties(TERMS, OURS, 3)


def test_workers_that_live_by_the_code_of_another_version_are_not() -> None:
    assert duties(TERMS, replace(OURS, incumbent="0.0.1"), 2) != duties(TERMS, OURS, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"base": "d" * 40},  # a study that was begun anew
        {"trial": {"command": "./other.sh"}},
        {"metric": replace(METRIC, goal=Goal.MAXIMIZE)},
        {"editable": ("bench.sh",)},
        {"gpu_busy_mb": 0.0},
        {"score": {"labels": "labels.csv"}},
        {"further": {"guard": {}}},
        {"keep": {"disk_gb": 1.0}},
        {"needed": ("model.pt",)},
    ],
)
def test_workers_that_would_do_anything_else_are_not(other: dict[str, Any]) -> None:
    assert duties(replace(TERMS, **other), OURS, 2) != duties(TERMS, OURS, 2)


@dataclass
class Ward:
    """A crew of one worker, whose every run takes `lasts_s` and ends as `ending` says."""

    ending: Exception | None
    lasts_s: float = 1.0
    now: float = 1000.0
    said: list[tuple[str, str]] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)

    exceptions = ray.exceptions

    def monotonic(self) -> float:
        return self.now

    def begin(self) -> float:
        self.begun.append(self.now)
        return self.now

    def wait(self, runs: Sequence[float], timeout: float) -> tuple[list[float], list[float]]:
        assert timeout == 0
        return [run for run in runs if self.now - run >= self.lasts_s], []

    def get(self, run: float) -> str:
        assert self.now - run >= self.lasts_s
        if self.ending is not None:
            raise self.ending
        return "drained"


def tended(ward: Ward, hours: float, monkeypatch: pytest.MonkeyPatch) -> Ward:
    """Tend it for so long, four times a second."""
    monkeypatch.setattr(crew_module, "ray", ward)
    monkeypatch.setattr(crew_module, "time", ward)
    paths = WorkerPaths(study=Path("/study"), environments=Path("/envs"))
    post = Post(study="s", node="", paths=paths, slots=1)
    crew = Crew(TERMS, post, lambda kind, text: ward.said.append((kind, text)))
    crew._workers["w"] = SimpleNamespace(run=SimpleNamespace(remote=ward.begin))
    crew._run("w")
    for _ in range(round(hours * 3600 / 0.25)):
        ward.now += 0.25
        crew.tend()
    return ward


DIED = ray.exceptions.RayActorError


def test_a_worker_that_dies_at_each_start_is_started_ever_later_and_told_of_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ward = tended(Ward(DIED()), 12.0, monkeypatch)
    assert [round(b - a) for a, b in zip(ward.begun, ward.begun[1:8], strict=False)] == [
        *(3, 5, 9, 17, 33, 61, 61)
    ]
    assert len(ward.begun) > 700, "it is never given up"
    assert [text for _, text in ward.said[:3]] == [
        "w died; it is started again",
        "w died 2 times in a row; it is started again",
        "w died 4 times in a row; it is started again",
    ]
    assert len(ward.said) == 10
    assert {kind for kind, _ in ward.said} == {"problem"}


def test_a_worker_that_is_killed_now_and_then_is_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ward = tended(Ward(DIED(), lasts_s=600.0), 2.0, monkeypatch)
    assert [round(b - a) for a, b in zip(ward.begun, ward.begun[1:], strict=False)] == [602] * 11
    assert ward.said == [("problem", "w died; it is started again")] * 11


def test_a_worker_that_cannot_work_again_and_again_is_fatal_and_one_that_does_so_slowly_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = tended(Ward(OSError("no such card")), 15 / 3600, monkeypatch)
    assert quick.said[-1] == ("fatal", "w failed 5 times in a row: OSError: no such card")
    slow = tended(Ward(OSError("no such card"), lasts_s=40.0), 12.0, monkeypatch)
    assert {kind for kind, _ in slow.said} == {"problem"}
    assert len(slow.said) < 12


def test_workers_that_were_told_to_leave_have_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ward = tended(Ward(None), 0.1, monkeypatch)
    assert ward.said == []
    assert len(ward.begun) > 100
