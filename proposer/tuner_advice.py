"""What the tuner has learnt, in a few lines that a language model reads.

Pure. Knows how a best region is told. Does not know how importances are measured
(`proposer.optuna_model`).
"""

from collections.abc import Mapping, Sequence

from eval.metric import Goal, Metric
from proposer.proposal import Scalar

LEAST = 10
"""Scored configurations before anything is said of them."""
_MOST_NAMES = 8
_MOST_PROBLEMS = 3
_BEST_SHARE = 0.1
_LEAST_BEST = 4

Scored = tuple[Mapping[str, Scalar], float]
"""A configuration, and its score at the level of the present incumbent's code."""


def tell(
    metric: Metric,
    scored: Sequence[Scored],
    importances: Mapping[str, float],
    problems: Sequence[str] = (),
) -> str:
    """Return at most six lines; none before enough was measured and if no hint was in vain."""
    lines = []
    if len(scored) >= LEAST:
        best = sorted(scored, key=lambda one: one[1], reverse=metric.goal is Goal.MAXIMIZE)
        count = max(round(len(best) * _BEST_SHARE), _LEAST_BEST)
        names = list(importances)[:_MOST_NAMES] or list(best[0][0])[:_MOST_NAMES]
        direction = "lower" if metric.goal is Goal.MINIMIZE else "higher"
        lines.append(
            f"{len(scored)} configurations of constants measured; "
            f"{direction} {metric.name} is better."
        )
        if importances:
            shares = ", ".join(f"{name} {importances[name]:.0%}" for name in names)
            lines.append(f"Importance of constants: {shares}.")
        regions = ", ".join(filter(None, (_region(name, best[:count]) for name in names)))
        lines.append(f"Best {count} lie at: {regions}.")
        values = ", ".join(f"{name}={best[0][0][name]!r}" for name in names if name in best[0][0])
        lines.append(f"Best of all, {metric.name} {best[0][1]:.6g}: {values}.")
    if problems:
        lines.append("Hints that could not be used: " + "; ".join(problems[-_MOST_PROBLEMS:]))
    return "\n".join(lines)


def _region(name: str, best: Sequence[Scored]) -> str:
    values = [configuration[name] for configuration, _ in best if name in configuration]
    numbers = [value for value in values if not isinstance(value, bool | str)]
    if values and len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        return f"{name} {low!r}" if low == high else f"{name} {low!r} to {high!r}"
    return f"{name} {' or '.join(sorted({repr(value) for value in values}))}" if values else ""
