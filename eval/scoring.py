"""From predictions and labels to the number that counts, by the metric's name. Pure.

Knows which function computes what, and which arrays it needs. Does not know files: see
trainer.score_process, which runs this in a process of its own.
"""

from collections.abc import Callable, Mapping
from functools import partial

from eval.classification import accuracy, log_loss, macro_f1, roc_auc
from eval.likelihood import bits_per_byte
from eval.metric import MOST
from eval.regression import mse
from eval.retrieval import mean_rank, median_rank, recall_at
from eval.scorable import Array, BadLabels, Table, Unscorable, joined
from eval.trusted_metrics import RECALL

_METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "roc_auc": roc_auc,
    "log_loss": log_loss,
    "mse": mse,
    "mean_rank": mean_rank,
    "median_rank": median_rank,
}


def score(metric: str, predictions: Table, labels: Table) -> float:
    """Return the metric of that name; a finite number.

    Args:
        metric: as `[score] metric` has it, e.g. "accuracy", "recall@5", "bits_per_byte".
        predictions: with an array `predictions`, a row for each thing predicted.
        labels: with an array `labels`, and one `bytes` for bits per byte.

    Raises:
        Unscorable: the predictions are not what they should be.
        BadLabels: the labels are not.
    """
    check_labels(metric, labels)
    given = joined(predictions, labels, "predictions")
    if not given.size:
        raise Unscorable("holds nothing")
    value = _function(metric, labels)(given, labels.arrays["labels"])
    if not abs(value) <= MOST:
        raise Unscorable("gives a score that is not finite")
    return value


def check_labels(metric: str, labels: Table) -> None:
    """Raise BadLabels if anything is wrong with labels that can be told without predictions."""
    wanted = ("labels", "bytes") if metric == "bits_per_byte" else ("labels",)
    for name in wanted:
        if name not in labels.arrays:
            raise BadLabels(f"has no array called {name}, which {metric} needs")
    rows = {len(labels.arrays[name]) for name in wanted}
    if labels.ids is not None:
        rows.add(len(labels.ids))
        if len(set(labels.ids)) != len(labels.ids):
            raise BadLabels("has an id twice")
    if len(rows) != 1 or not min(rows):
        raise BadLabels("must hold some rows, and the same number in each array")


def _function(metric: str, labels: Table) -> Callable[[Array, Array], float]:
    if metric == "bits_per_byte":
        return partial(bits_per_byte, byte_counts=labels.arrays["bytes"])
    if found := RECALL.fullmatch(metric):
        return partial(recall_at, int(found[1]))
    return _METRICS[metric]
