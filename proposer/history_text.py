"""The history of a study within a number of characters, however long it is. Pure.

Winners are always told, and what came close; then the latest, as far as there is room. What is left
folds into a table by category. So the text stays bounded, and what it says of thousands of
experiments is counts.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eval.metric import Metric
from proposer.plain import cut, fenced, plain_line
from proposer.proposal import Past

_KEPT = frozenset({"kept", "merged", "winner", "merging"})
_FAILED = frozenset({"rejected", "crashed", "timed_out", "pruned", "lost"})
_MOST_WINNERS = 60
_NEAR_MISSES = 12
_MOST_CATEGORIES = 30
_REASON, _HYPOTHESIS, _PATCH = 240, 200, 1500
_PATCH_SHARE = 0.4
"""Of the room, what diffs may take."""


def history_text(history: Sequence[Past], metric: Metric, most: int) -> str:
    """Return what was tried and what came of it, in at most about `most` characters."""
    if not history:
        return "Nothing has been tried yet."
    chosen, folded = _chosen(history, most)
    total = f"{len(history)} experiments have ended."
    parts = [f"{total} Effects are of {metric.name}: positive is better, +- a standard deviation."]
    patches = int(most * _PATCH_SHARE)
    lines: list[str] = []
    for past in chosen:
        line = _line(past)
        if past.patch and past.status in _KEPT | {"discarded"} and len(past.patch) < patches:
            shown = cut(past.patch.rstrip(), _PATCH)
            patches -= len(shown)
            line += "\n" + "\n".join(f"    {text}" for text in shown.splitlines())
        lines.append(line)
    parts.append(fenced("\n".join(lines)))
    if folded:
        parts.append(f"{len(folded)} more, by category:\n" + fenced("\n".join(_table(folded))))
    return cut("\n".join(parts), max(most, 200))


def near_misses(history: Sequence[Past]) -> list[Past]:
    """Return the discarded experiments that came nearest to being better, the nearest first."""
    found = [past for past in history if past.status == "discarded" and past.effect is not None]
    return sorted(found, key=_promise, reverse=True)[:_NEAR_MISSES]


def _promise(past: Past) -> float:
    """How good an effect is, in its standard deviations where these are known."""
    effect = past.effect or 0.0
    return effect / past.effect_sd if past.effect_sd else effect


def _chosen(history: Sequence[Past], most: int) -> tuple[list[Past], list[Past]]:
    """Return what is told one by one, in order, and what is folded together."""
    winners = [past for past in history if past.status in _KEPT][-_MOST_WINNERS:]
    first = [*winners, *near_misses(history)]
    # A third is left for diffs and for the table.
    room = int(most * (1 - _PATCH_SHARE)) - 1000
    chosen: set[str] = set()
    for past in [*first, *reversed(history)]:
        if past.experiment in chosen:
            continue
        room -= len(_line(past)) + 1
        if room < 0:
            break
        chosen.add(past.experiment)
    told = [past for past in history if past.experiment in chosen]
    return told, [past for past in history if past.experiment not in chosen]


def _line(past: Past) -> str:
    effect = ""
    if past.effect is not None:
        sd = f" +- {past.effect_sd:.2g}" if past.effect_sd is not None else ""
        effect = f" {past.effect:+.4g}{sd}"
    category = f", {plain_line(past.category, 40)}" if past.category else ""
    fixes = f", fixes {past.fixes}" if past.fixes else ""
    told = f"{past.experiment} on {past.base} ({past.proposer}{category}{fixes}): "
    told += f"{plain_line(past.hypothesis, _HYPOTHESIS)} -> {past.status}{effect}"
    return f"{told}; {plain_line(past.reason, _REASON)}" if past.reason else told


@dataclass(slots=True)
class _Row:
    tried: int = 0
    kept: int = 0
    failed: int = 0
    effects: list[float] = field(default_factory=list)


def _table(folded: Sequence[Past]) -> Iterator[str]:
    rows: defaultdict[str, _Row] = defaultdict(_Row)
    for past in folded:
        row = rows[plain_line(past.category, 40) or past.proposer]
        row.tried += 1
        row.kept += past.status in _KEPT
        row.failed += past.status in _FAILED
        if past.effect is not None:
            row.effects.append(past.effect)
    ordered = sorted(rows.items(), key=lambda item: -item[1].tried)
    for name, row in ordered[:_MOST_CATEGORIES]:
        best = f", best effect {max(row.effects):+.3g}" if row.effects else ""
        yield f"{name}: {row.tried} tried, {row.kept} kept, {row.failed} failed{best}"
    if others := ordered[_MOST_CATEGORIES:]:
        yield f"others: {sum(row.tried for _, row in others)} tried"
