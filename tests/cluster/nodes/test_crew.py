"""Which workers of an earlier controller, or of an earlier driver of a node, may go on."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.ledger.codec import from_json, to_json
from cluster.nodes.crew import duties
from cluster.queue.brief import Terms, Versions
from eval.metric import Goal, Metric

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
