"""From predictions and labels to the number that counts, by the metric's name. Pure.

Knows which function computes what, and which arrays it needs. Does not know files: see
trainer.score_process, which runs this in a process of its own.
"""

from collections.abc import Callable, Mapping
from functools import partial

from eval.classification import (
    accuracy,
    classes_of,
    log_loss,
    macro_f1,
    roc_auc,
    two_classes_of,
)
from eval.likelihood import bits_per_byte, tokens_of
from eval.metric import MOST
from eval.regression import mse, quantities_of
from eval.retrieval import items_of, mean_rank, median_rank, recall_at
from eval.scorable import Array, BadLabels, Table, Unscorable, joined
from eval.trusted_metrics import RECALL

_METRICS: Mapping[str, tuple[Callable[[Array, Array], float], Callable[[Array], object]]] = {
    "accuracy": (accuracy, classes_of),
    "macro_f1": (macro_f1, classes_of),
    "roc_auc": (roc_auc, two_classes_of),
    "log_loss": (log_loss, classes_of),
    "mse": (mse, quantities_of),
    "mean_rank": (mean_rank, items_of),
    "median_rank": (median_rank, items_of),
}
"""What computes a metric, and what raises BadLabels of labels that it could not use."""


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
    compute, _ = _functions(metric, labels)
    value = compute(given, labels.arrays["labels"])
    if not abs(value) <= MOST:
        raise Unscorable("gives a score that is not finite")
    return value


def check_labels(metric: str, labels: Table) -> None:
    """Raise BadLabels if the metric cannot be computed from labels such as these."""
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
    _, look = _functions(metric, labels)
    look(labels.arrays["labels"])


def _functions(
    metric: str, labels: Table
) -> tuple[Callable[[Array, Array], float], Callable[[Array], object]]:
    if metric == "bits_per_byte":
        counts = labels.arrays["bytes"]
        return partial(bits_per_byte, byte_counts=counts), partial(tokens_of, byte_counts=counts)
    if found := RECALL.fullmatch(metric):
        return partial(recall_at, int(found[1])), items_of
    return _METRICS[metric]
