"""Which workers of an earlier controller, or of an earlier driver of a node, may go on."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.brief import Brief, Versions
from cluster.crew import duties
from eval.metric import Goal, Metric

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)")
BRIEF = Brief(
    study="s",
    name="mar5",
    base="c" * 40,
    versions=Versions.ours(),
    ray="1-2.0",
    gpu_busy_mb=500.0,
    trial={"command": "./bench.sh"},
    metric=METRIC,
)


def test_workers_that_would_do_the_same_are_adopted() -> None:
    assert duties(BRIEF, 2) == duties(replace(BRIEF, ray="3-4.0"), 2)
    assert duties(BRIEF, 2) != duties(BRIEF, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"base": "d" * 40},  # a study that was begun anew
        {"versions": replace(Versions.ours(), incumbent="0.0.1")},  # they would run old code
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
    assert duties(replace(BRIEF, **other), 2) != duties(BRIEF, 2)
