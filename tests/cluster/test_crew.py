"""Which workers of an earlier controller, or of an earlier driver of a node, may go on."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.brief import Terms
from cluster.codec import from_json, to_json
from cluster.crew import duties
from eval.metric import Goal, Metric

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)")
TERMS = Terms(
    base="c" * 40,
    gpu_busy_mb=500.0,
    trial={"command": "./bench.sh"},
    metric=METRIC,
)


def test_workers_that_would_do_the_same_are_adopted() -> None:
    posted = from_json(Terms, to_json(TERMS))
    assert duties(TERMS, 2) == duties(posted, 2)
    assert duties(TERMS, 2) != duties(TERMS, 3)


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
    assert duties(replace(TERMS, **other), 2) != duties(TERMS, 2)
