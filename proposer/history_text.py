"""The history of a study within a number of characters, however long it is. Pure.

Winners are always told, and what came close; then the latest, as far as there is room. What is left
folds into a table by category. So the text stays bounded, and what it says of thousands of
experiments is counts.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eval.metric import Metric
from proposer.plain import cut, fenced, plain_line, plain_text
from proposer.proposal import Past

_KEPT = frozenset({"kept", "merged", "winner", "merging"})
_FAILED = frozenset({"rejected", "crashed", "timed_out", "pruned", "lost"})
_MOST_WINNERS = 60
_NEAR_MISSES = 12
_MOST_CATEGORIES = 30
_REASON, _HYPOTHESIS, _PATCH = 240, 200, 1500
_TABLE = 1500
"""Characters of the table of what is folded together."""
_WITH_PATCH = _KEPT | {"discarded"}
_PATCH_SHARE = 0.4
"""Of the room, what diffs may take."""


def history_text(history: Sequence[Past], metric: Metric, most: int) -> str:
    """Return what was tried and what came of it, in at most `most` characters, above 1,000."""
    if not history:
        return "Nothing has been tried yet."
    total = f"{len(history)} experiments have ended."
    head = f"{total} Effects are of {metric.name}: positive is better, +- a standard deviation."
    told = _chosen(history, int(most * (1 - _PATCH_SHARE)) - _TABLE - len(head))
    folded = [past for past in history if past.experiment not in told]
    table = fenced(cut("\n".join(_table(folded)), _TABLE - 100)) if folded else ""
    more = f"{len(folded)} more, by category:\n{table}" if folded else ""
    room = int(most * _PATCH_SHARE) - 100
    lines = []
    for past in history:
        if line := told.get(past.experiment):
            shown = _patch(past, room)
            room -= len(shown)
            lines.append(line + shown)
    return "\n".join(filter(None, [head, fenced("\n".join(lines)), more]))


def _patch(past: Past, room: int) -> str:
    """Return a diff as lines below its experiment's, if there is room for it; else nothing."""
    if not past.patch or past.status not in _WITH_PATCH:
        return ""
    shown = cut(past.patch.rstrip(), _PATCH)
    text = "".join(f"\n    {line}" for line in shown.splitlines())
    return text if len(text) <= room else ""


def near_misses(history: Sequence[Past]) -> list[Past]:
    """Return the discarded experiments that came nearest to being better, the nearest first."""
    found = [past for past in history if past.status == "discarded" and past.effect is not None]
    return sorted(found, key=_promise, reverse=True)[:_NEAR_MISSES]


def _promise(past: Past) -> float:
    """How good an effect is, in its standard deviations where these are known."""
    effect = past.effect or 0.0
    return effect / past.effect_sd if past.effect_sd else effect


def _chosen(history: Sequence[Past], room: int) -> dict[str, str]:
    """Return the lines of what is told one by one, by experiment."""
    winners = [past for past in history if past.status in _KEPT][-_MOST_WINNERS:]
    told: dict[str, str] = {}
    for past in [*reversed(winners), *near_misses(history), *reversed(history)]:
        if past.experiment in told:
            continue
        line = _line(past)
        room -= len(line) + 1
        if room < 0:
            break
        told[past.experiment] = line
    return told


def _line(past: Past) -> str:
    effect = ""
    if past.effect is not None:
        sd = f" +- {past.effect_sd:.2g}" if past.effect_sd is not None else ""
        effect = f" {past.effect:+.4g}{sd}"
    category = f", {plain_line(past.category, 40)}" if past.category else ""
    fixes = f", fixes {past.fixes}" if past.fixes else ""
    author = plain_line(past.proposer, 40)
    told = f"{past.experiment} on {past.base} ({author}{category}{fixes}): "
    told += f"{plain_line(past.hypothesis, _HYPOTHESIS)} -> {past.status}{effect}"
    if not past.reason:
        return told
    # The end of a traceback says more than its beginning.
    reason = " ".join(plain_text(past.reason).split())
    return f"{told}; {cut(reason, _REASON, keep_end=past.status in _FAILED)}"


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
