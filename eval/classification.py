"""Metrics of predicted classes and probabilities. Pure.

Each is defined as in scikit-learn, with which the tests compare it, but for what its docstring
says; scikit-learn itself would be a heavy thing to need for these lines.
"""

import numpy as np
import numpy.typing as npt

from eval.scorable import Array, BadLabels, Unscorable, finite, shape_of, whole

_SUM_TOLERANCE = 0.01
"""So far from 1 may the probabilities of a row add up: half precision is that coarse."""


def accuracy(predictions: Array, labels: Array) -> float:
    """Return the share of rows whose class was predicted, from 0 to 1.

    Args:
        predictions: (n,) classes, or (n, classes) scores of which the greatest counts, the first
            of several that are equal.
        labels: (n,) classes from 0 on.
    """
    predicted, actual = _both(predictions, labels)
    return float(np.mean(predicted == actual))


def macro_f1(predictions: Array, labels: Array) -> float:
    """Return the mean, over classes, of 2 TP / (2 TP + FP + FN), from 0 to 1.

    Over all classes that are predicted or true anywhere. Shapes as for `accuracy`.
    """
    predicted, actual = _both(predictions, labels)
    classes = np.unique(np.concatenate((predicted, actual)))
    guessed, true = np.searchsorted(classes, predicted), np.searchsorted(classes, actual)
    hits = np.bincount(true[guessed == true], minlength=len(classes))
    both = np.bincount(guessed, minlength=len(classes)) + np.bincount(true, minlength=len(classes))
    return float(np.mean(2.0 * hits / both))  # TP + FP, and TP + FN: nothing is divided by 0


def roc_auc(predictions: Array, labels: Array) -> float:
    """Return the chance that a positive scores above a negative, ties counting half; from 0 to 1.

    The area under the ROC curve by the Mann-Whitney statistic (Hanley and McNeil, 1982), so a
    constant score earns 0.5.

    Args:
        predictions: (n,) scores, or (n, 2), of which the second column counts.
        labels: (n,) of 0 and 1, both of which occur.
    """
    actual = two_classes_of(labels)
    scores = finite(_second_column(predictions))
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]  # from 1; the mean among ties
    positives = int(actual.sum())
    above = float(ranks[actual == 1].sum()) - positives * (positives + 1) / 2.0
    return above / (positives * (len(actual) - positives))


def log_loss(predictions: Array, labels: Array) -> float:
    """Return the mean negative logarithm of the true classes' probabilities, in nats.

    Rows are divided by their sums, which must be near 1, so that nothing is won by larger ones; a
    probability counts as at least 2.2e-16 (the relative precision of 64-bit floats), so that
    nobody's loss is infinite.

    Args:
        predictions: (n, classes) probabilities, or (n,) those of class 1.
        labels: (n,) classes from 0 on.
    """
    actual = classes_of(labels)
    given = finite(predictions)
    if given.ndim == 1:
        given = np.stack((1.0 - given, given), axis=1)
    _check_columns(given, actual)
    if (given < 0).any() or (given > 1 + _SUM_TOLERANCE).any():
        raise Unscorable("holds what is no probability, below 0 or above 1")
    sums = given.sum(axis=1)
    if (np.abs(sums - 1.0) > _SUM_TOLERANCE).any():
        row = int(np.abs(sums - 1.0).argmax())
        raise Unscorable(f"holds probabilities that add up to {sums[row]:.6g} in row {row}, not 1")
    chances = given[np.arange(len(given)), actual] / sums
    return float(-np.mean(np.log(np.maximum(chances, np.finfo(np.float64).eps))))


def classes_of(labels: Array) -> npt.NDArray[np.int64]:
    """Return the labels as classes from 0 on; raises BadLabels."""
    try:
        actual = whole(labels)
    except ValueError as error:
        raise BadLabels(str(error)) from None
    if (actual < 0).any():
        raise BadLabels("must be classes from 0 on, and one is negative")
    return actual


def two_classes_of(labels: Array) -> npt.NDArray[np.int64]:
    """Return the labels as 0 and 1, which both occur; raises BadLabels."""
    actual = classes_of(labels)
    if set(np.unique(actual)) != {0, 1}:
        raise BadLabels("must be 0 and 1, and both occur, for roc_auc")
    return actual


def _second_column(predictions: Array) -> Array:
    if predictions.ndim == 1:
        return predictions
    if predictions.ndim == 2 and predictions.shape[1] == 2:
        return predictions[:, 1]
    raise Unscorable(f"has shape {shape_of(predictions)}, not one score a row, or two")


def _both(predictions: Array, labels: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    actual = classes_of(labels)
    given = finite(predictions)
    if given.ndim != 1:
        _check_columns(given, actual)
        return given.argmax(axis=1).astype(np.int64), actual
    try:
        return whole(predictions), actual
    except ValueError as error:
        raise Unscorable(str(error)) from None


def _check_columns(scores: npt.NDArray[np.float64], actual: npt.NDArray[np.int64]) -> None:
    classes = int(actual.max()) + 1
    if scores.ndim != 2:
        raise Unscorable(f"has shape {shape_of(scores)}, not one column a class")
    if scores.shape[1] < classes:
        raise Unscorable(f"has {scores.shape[1]} columns, the labels {classes} classes")
