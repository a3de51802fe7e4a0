"""Cases for judges: a candidate, what it is judged against, and what is known of the noise."""

from collections.abc import Sequence
from typing import Any

from eval.beliefs import Memory
from eval.judge import Circumstance, Evidence
from eval.metric import Goal, Metric
from eval.noise import Noise
from eval.score import Score

LOSS = Metric(name="loss", goal=Goal.MINIMIZE, pattern="")
ACCURACY = Metric(name="accuracy", goal=Goal.MAXIMIZE, pattern="")


def tree(*values: float, lines: int = 100, **known: Any) -> Evidence:
    return Evidence(score=Score(values=values, device_class="gpu"), lines=lines, **known)


def around(sigma: float = 1.0, *, memory: Memory | None = None, slots: int = 8, dof: int = 20):
    noise = Noise(sigma=sigma, dof=dof)
    return Circumstance(noise=noise, memory=memory or Memory(), slots=slots)


def scaled(values: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(factor * value for value in values)
