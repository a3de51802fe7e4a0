"""A small script whose patches preflight looks at, for its tests."""

import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from eval.metric import Goal, Metric
from tests.trainer.conftest import Research
from trainer.preflight import Preflight
from trainer.trial import CommitId

METRIC = Metric(name="val_loss", goal=Goal.MINIMIZE, pattern=r"^val_loss:\s+(\S+)")
HERE = Path(sys.executable)
BASE = """\
import math
import sys

SCALE = 1.0


def loss(x):
    return math.sqrt(x) * SCALE


value = loss(4.0)
print("begin", file=sys.stderr)
print(f"val_loss: {value}")
"""
TREE = {
    "train.py": BASE,
    "helper.py": "def report(number):\n    print('the end', number)\n",
    "parts/blocks.py": "WIDTH = 3\n",
    "README.md": "prints val_loss\n",
}


def check(
    research: Research,
    candidate: str,
    *,
    python: Path | None = HERE,
    tree: Mapping[str, str] = TREE,
    metric: Metric = METRIC,
    path: str = "train.py",
) -> str:
    base = research.commit({**tree, "nothing.txt": uuid.uuid4().hex})  # git wants a change
    preflight = Preflight(repository=research.bare, metric=metric, python=python)
    return preflight.problem(
        base=CommitId(base), before={path: tree[path]}, after={path: candidate}
    )


def patched(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


def ending(line: str) -> str:
    return BASE + line + "\n"
