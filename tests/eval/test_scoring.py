"""The trusted metrics against scikit-learn, and what nobody must win by."""

import math

import numpy as np
import pytest
from sklearn import metrics as peer

from eval.scorable import BadLabels, Table, Unscorable
from eval.scoring import score
from eval.trusted_metrics import TRUSTED_METRICS

ROWS, CLASSES = 200, 5
CHANCE = np.random.default_rng(7)
LABELS = CHANCE.integers(CLASSES, size=ROWS)
LOGITS = CHANCE.normal(size=(ROWS, CLASSES)) + 2.0 * np.eye(CLASSES)[LABELS]
CHANCES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
BINARY = LABELS % 2
COARSE = np.round(CHANCE.normal(size=ROWS) + BINARY, 1)
"""With ties."""
N = np.array
EYE = np.eye(3)
PREDICTIONS = {"roc_auc": N([0.1, 0.2, 0.3]), "mse": N([1.0, 2.0, 3.0])}


def table(values, name="predictions", ids=None, **more):
    return Table(arrays={name: np.asarray(values), **more}, ids=ids)


def scored(metric, predictions, labels, ids=None, **more):
    given = predictions if isinstance(predictions, Table) else table(predictions)
    return score(metric, given, table(labels, "labels", ids, **more))


def test_every_metric_of_the_configuration_can_be_computed():
    for name in (*TRUSTED_METRICS, "recall@3"):
        labels = N([1, 0, 1])
        assert math.isfinite(scored(name, PREDICTIONS.get(name, EYE), labels, bytes=N([1, 2, 0])))


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "expected"),
    [
        ("accuracy", LOGITS, LABELS, peer.accuracy_score(LABELS, LOGITS.argmax(axis=1))),
        ("accuracy", LOGITS.argmax(axis=1), LABELS, peer.accuracy_score(LABELS, LOGITS.argmax(1))),
        ("macro_f1", LOGITS, LABELS, peer.f1_score(LABELS, LOGITS.argmax(1), average="macro")),
        ("macro_f1", N([9, 0, 0]), N([0, 0, 1]), peer.f1_score([0, 0, 1], [9, 0, 0], average="macro")),  # noqa: E501
        ("roc_auc", COARSE, BINARY, peer.roc_auc_score(BINARY, COARSE)),
        ("log_loss", CHANCES, LABELS, peer.log_loss(LABELS, CHANCES)),
        ("log_loss", CHANCES[:, 1], BINARY, peer.log_loss(BINARY, CHANCES[:, 1])),
        ("mse", COARSE, LABELS, peer.mean_squared_error(LABELS, COARSE)),
        ("mse", LOGITS, CHANCES, peer.mean_squared_error(CHANCES, LOGITS)),
    ],
)  # fmt: skip
def test_agrees_with_scikit_learn(metric, predictions, labels, expected):
    assert scored(metric, predictions, labels) == pytest.approx(expected, rel=1e-12)


def test_constant_scores_win_nothing():
    labels = N([3, 1, 4, 0, 2, 9, 5, 6, 8, 7])
    constant = np.zeros((10, 10))
    assert scored("roc_auc", np.zeros(ROWS), BINARY) == 0.5
    assert scored("mean_rank", constant, labels) == 5.5
    assert scored("median_rank", constant, labels) == 5.5
    assert scored("recall@5", constant, labels) == 0.0
    assert scored("bits_per_byte", np.zeros((4, 8)), N([1, 2, 3, 4]), bytes=N([1, 1, 1, 0])) == 3.0


def test_ranks_count_what_scores_higher_and_half_of_what_scores_the_same():
    scores = N([[0.9, 0.5, 0.5, 0.1], [0.2, 0.8, 0.7, 0.6], [1.0, 1.0, 1.0, 0.0]])
    labels = N([1, 2, 3])
    assert scored("mean_rank", scores, labels) == pytest.approx((2.5 + 2 + 4) / 3)
    assert scored("median_rank", scores, labels) == 2.5


def test_recall_is_the_mean_of_both_ways():
    # To the columns: rows 0 and 1 have theirs first, row 2 second. To the rows: column 2 finds row
    # 0 first; column 0, which is right for rows 1 and 2, finds row 1 before the wrong row 0.
    scores = N([[0.1, 0.0, 0.9], [0.9, 0.0, 0.2], [0.5, 0.0, 0.6]])
    labels = N([2, 0, 0])
    assert scored("recall@1", scores, labels) == pytest.approx((2 / 3 + 2 / 2) / 2)
    assert scored("recall@2", scores, labels) == 1.0
    worse = scores.copy()
    worse[0, 0] = 1.0
    assert scored("recall@1", worse, labels) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_bits_per_byte_is_the_mean_surprise_and_special_tokens_do_not_count():
    chances = N([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
    labels, counts = N([0, 2, 1]), N([1, 3, 0])
    expected = (1.0 - math.log2(0.8)) / 4
    assert scored("bits_per_byte", np.log(chances), labels, bytes=counts) == pytest.approx(expected)
    # Rows that add up to more than 1 are brought down, so the same comes out.
    inflated = np.log(chances) + 100.0
    assert scored("bits_per_byte", inflated, labels, bytes=counts) == pytest.approx(expected)


def test_probabilities_that_add_up_to_a_little_more_win_nothing():
    assert scored("log_loss", CHANCES * 1.009, LABELS) == pytest.approx(
        peer.log_loss(LABELS, CHANCES)
    )


def test_a_probability_of_nothing_costs_much_and_is_finite():
    assert scored("log_loss", N([[1.0, 0.0], [1.0, 0.0]]), N([0, 1])) == pytest.approx(
        -math.log(np.finfo(float).eps) / 2
    )


def test_rows_are_joined_by_their_ids():
    given = table(N([1, 0, 2]), ids=["b", "a", "c"])
    assert scored("accuracy", given, N([0, 1, 2]), ids=["a", "b", "c"]) == 1.0
    assert scored("accuracy", given, N([1, 0, 2]), ids=["a", "b", "c"]) == 1 / 3


@pytest.mark.parametrize(
    ("metric", "predictions", "reason"),
    [
        ("accuracy", N([1, 0]), "holds 2 rows, the labels 3"),
        ("accuracy", N([1, 0, 1, 1]), "holds 4 rows, the labels 3"),
        ("accuracy", N([1.0, np.nan, np.inf]), "holds NaN or infinity in row 1 and 1 more"),
        ("accuracy", N([0.2, 0.9, 1.0]), "holds 0.2 in row 0, where a whole number is meant"),
        ("accuracy", np.ones((3, 1)), "has 1 columns, the labels 2 classes"),
        ("accuracy", np.ones((3, 2, 2)), "has shape 3 x 2 x 2, not one column a class"),
        ("roc_auc", np.ones((3, 3)), "has shape 3 x 3, not one score a row, or two"),
        ("log_loss", N([[0.9, 0.2]] * 3), "holds probabilities that add up to 1.1 in row 0, not 1"),
        ("log_loss", N([[2.0, -1.0]] * 3), "holds what is no probability, below 0 or above 1"),
        ("mse", N([[1.0], [2.0]]), "holds 2 rows, the labels 3"),
        ("mse", N([[1.0, 2.0]] * 3), "has shape 3 x 2, the labels 3"),
        ("mse", N([1e200, 1.0, 1.0]), "gives a score that is not finite"),
        ("mean_rank", N([1.0, 2.0, 3.0]), "has shape 3, not one column an item"),
        ("mean_rank", np.ones((3, 1)), "has 1 columns, the labels at least 2 items"),
        ("bits_per_byte", N([0.0] * 3), "has shape 3, not one column for each token"),
        ("bits_per_byte", np.ones((3, 1)), "has 1 columns, the labels 2 tokens"),
        ("accuracy", np.ones((3, 0)), "holds nothing"),
        ("accuracy", table(N([1, 0, 1]), ids=[1, 2, 3]), "has ids, the labels have none"),
    ],
)
def test_predictions_that_cannot_be_scored(metric, predictions, reason):
    with pytest.raises(Unscorable) as caught:
        scored(metric, predictions, N([1, 0, 1]), bytes=N([1, 1, 1]))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (None, "has no ids, the labels have"),
        ((1, 2), "holds 2 ids for 3 rows"),
        ((1, 1, 2), "has the id 1 twice"),
        ((1, 2, 9), "lacks the id 3"),
        ((7, 8, 9), "lacks the id 1 and 2 more"),
    ],
)
def test_ids_that_do_not_fit(ids, reason):
    given = table(N([1, 0, 1]), ids=ids)
    with pytest.raises(Unscorable) as caught:
        scored("accuracy", given, N([1, 0, 1]), ids=(1, 2, 3))
    assert str(caught.value) == reason


def test_rows_that_nobody_asked_for():
    given = table(N([1, 0, 1, 1]), ids=(1, 2, 3, 4))
    with pytest.raises(Unscorable, match="has the id 4, unknown to the labels"):
        scored("accuracy", given, N([1, 0, 1]), ids=(1, 2, 3))


@pytest.mark.parametrize(
    ("metric", "labels", "more", "reason"),
    [
        ("accuracy", N([0, -1, 1]), {}, "classes from 0 on"),
        ("accuracy", N([0.5, 1.0, 1.0]), {}, "a whole number is meant"),
        ("accuracy", N([]), {}, "must hold some rows"),
        ("roc_auc", N([1, 1, 1]), {}, "must be 0 and 1, and both occur"),
        ("mse", N([1.0, np.nan, 1.0]), {}, "holds NaN or infinity"),
        ("mean_rank", N([0, 1, 2]), {}, "any candidate knows: shuffle the items"),
        ("mean_rank", N([0, -1, 2]), {}, "columns from 0 on"),
        ("bits_per_byte", N([0, 1, 2]), {}, "has no array called bytes"),
        ("bits_per_byte", N([0, 1, 2]), {"bytes": N([1, 1])}, "the same number in each array"),
        ("bits_per_byte", N([0, 1, 2]), {"bytes": N([0, 0, 0])}, "bytes of which there are some"),
        ("accuracy", N([0, 1, 2]), {"ids": (1, 1, 2)}, "has an id twice"),
    ],
)
def test_labels_that_are_of_no_use(metric, labels, more, reason):
    with pytest.raises(BadLabels, match=reason):
        scored(metric, N([1.0, 0.0, 1.0]), labels, **more)
