"""What it takes to put a long study into words for a language model."""

import time
from collections.abc import Iterator

from eval.metric import Goal, Metric
from proposer.prompt import render
from proposer.proposal import Context, Past
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.sizes import Sizes
from trainer.trial import CommitId, ExperimentId

NAME = "proposing"
EXPERIMENTS = 5000
TOKENS = 60_000
"""The default of `context_tokens`."""
MOST_MS = 50.0
_PATCH = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n" + "-LR = 0.1\n+LR = 0.2\n" * 20


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the time that a prompt takes over thousands of experiments."""
    context = _context()
    values = []
    for _ in range(3 * sizes.repeats):
        start = time.perf_counter()
        render(context, tokens=TOKENS, count=4)
        values.append(1000 * (time.perf_counter() - start))
    yield Figure(
        bench=NAME,
        name=f"a prompt of {TOKENS:,} tokens over {EXPERIMENTS:,} experiments",
        unit="ms",
        values=values,
        aim=at_most(MOST_MS),
    )


def _context() -> Context:
    return Context(
        metric=Metric(name="val_loss", goal=Goal.MINIMIZE, pattern="(x)"),
        incumbent=ExperimentId("e0"),
        incumbent_value=1.0,
        commit=CommitId("c" * 40),
        files={"train.py": "LR = 0.1\n" * 700},
        history=[_past(number) for number in range(1, EXPERIMENTS + 1)],
    )


def _past(number: int) -> Past:
    is_crash = number % 7 == 0
    return Past(
        experiment=ExperimentId(f"e{number}"),
        base=ExperimentId("e0"),
        proposer="claude",
        hypothesis="change this and that, for a reason that takes a line or two to tell",
        category=f"category {number % 40}",
        status="kept" if number % 97 == 0 else "crashed" if is_crash else "discarded",
        value=None if is_crash else 1.0,
        effect=None if is_crash else -0.001 * (number % 13),
        effect_sd=None if is_crash else 0.002,
        reason="Traceback (most recent call last): NameError: name 'x' is not defined",
        patch=_PATCH if EXPERIMENTS - number < 200 else "",
    )
