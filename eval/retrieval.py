"""Metrics of retrieval: where the right item stands among all, when sorted by score. Pure.

Scores are a matrix, a row for each query and a column for each item; greater is better. Labels say
which column is right for each row. Equal scores share the mean of their ranks, so that nothing is
won by scores that are all alike: with m items they earn the rank (m + 1) / 2, as chance does.

Where labels are 0, 1, 2, ... a candidate needs not look at anything to know them, as it knows its
rows' numbers. Such labels are refused: shuffle the items, and keep the permutation as the labels.
"""

import numpy as np
import numpy.typing as npt

from eval.scorable import Array, BadLabels, Unscorable, finite, shape_of, whole

Ranks = npt.NDArray[np.float64]


def mean_rank(scores: Array, labels: Array) -> float:
    """Return the mean rank of the rows' right columns; 1 is best.

    Args:
        scores: (n, m).
        labels: (n,) columns from 0 to m - 1.
    """
    return float(_ranks_of_columns(*_checked(scores, labels)).mean())


def median_rank(scores: Array, labels: Array) -> float:
    """Return the median of what `mean_rank` is the mean of."""
    return float(np.median(_ranks_of_columns(*_checked(scores, labels))))


def recall_at(most: int, scores: Array, labels: Array) -> float:
    """Return the share of right answers among the first `most`, both ways, from 0 to 1.

    It is the mean of two shares: of rows whose right column has a rank of at most `most` among the
    columns, and of columns of which the best right row has such a rank among the wrong rows. A
    column may be right for several rows (five captions of an image) or for none, which is then not
    asked for. Shapes as for `mean_rank`.
    """
    given, right = _checked(scores, labels)
    there, back = _ranks_of_columns(given, right), _ranks_of_rows(given, right)
    return float(((there <= most).mean() + (back <= most).mean()) / 2.0)


def _ranks_of_columns(scores: npt.NDArray[np.float64], right: npt.NDArray[np.int64]) -> Ranks:
    own = scores[np.arange(len(scores)), right][:, None]
    greater, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return np.asarray(1.0 + greater + (equal - 1) / 2.0, dtype=np.float64)


def _ranks_of_rows(scores: npt.NDArray[np.float64], right: npt.NDArray[np.int64]) -> Ranks:
    return np.array([_rank_of_best(scores[:, column], right == column) for column in set(right)])


def _rank_of_best(scores: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> float:
    best, wrong = scores[is_right].max(), scores[~is_right]
    return 1.0 + float((wrong > best).sum()) + float((wrong == best).sum()) / 2.0


def items_of(labels: Array) -> npt.NDArray[np.int64]:
    """Return the labels as columns, in an order that nobody can guess; raises BadLabels."""
    try:
        right = whole(labels)
    except ValueError as error:
        raise BadLabels(str(error)) from None
    if (right < 0).any():
        raise BadLabels("must be columns from 0 on, and one is negative")
    if len(right) > 1 and (right == np.arange(len(right))).all():
        raise BadLabels("holds 0, 1, 2, ..., which any candidate knows: shuffle the items")
    return right


def _checked(scores: Array, labels: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    right = items_of(labels)
    if scores.ndim != 2:
        raise Unscorable(f"has shape {shape_of(scores)}, not one column an item")
    if scores.shape[1] <= right.max():
        items = int(right.max()) + 1
        raise Unscorable(f"has {scores.shape[1]} columns, the labels at least {items} items")
    return finite(scores), right
