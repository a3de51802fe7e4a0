"""The metric of language models. Pure."""

import math

import numpy as np
import numpy.typing as npt

from eval.scorable import Array, BadLabels, Unscorable, finite, shape_of, whole


def bits_per_byte(predictions: Array, tokens: Array, byte_counts: Array) -> float:
    """Return bits needed for each byte of the text that was to be predicted.

    -sum of log2 p(token) / sum of its bytes, as in nanochat and karpathy/autoresearch; tokens of no
    bytes (special ones) count in neither sum. Independent of the vocabulary, unlike a loss a token.

    Each row of `predictions` is brought to probabilities here (log-softmax), so logits will do, and
    rows that add up to more than 1 win nothing. A single number for each token, the logarithm of
    what the model gave to the right one, would be a claim: nobody could tell it from 0.

    Args:
        predictions: (n, vocabulary) log-probabilities or logits of the token that follows.
        tokens: (n,) tokens that did follow, from 0 to vocabulary - 1.
        byte_counts: (n,) UTF-8 bytes of each.
    """
    actual, counts = tokens_of(tokens, byte_counts)
    if predictions.ndim != 2:
        shape = shape_of(predictions)
        raise Unscorable(f"has shape {shape}, not one column for each token of the vocabulary")
    if predictions.shape[1] <= actual.max():
        vocabulary = int(actual.max()) + 1
        raise Unscorable(f"has {predictions.shape[1]} columns, the labels {vocabulary} tokens")
    logits = finite(predictions)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(logits)), actual]
    nats = np.log(np.exp(logits).sum(axis=1)) - own
    return float(nats[counts > 0].sum() / (math.log(2.0) * counts.sum()))


def tokens_of(
    tokens: Array, byte_counts: Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the labels as tokens and the bytes of each; raises BadLabels."""
    try:
        actual, counts = whole(tokens), whole(byte_counts)
    except ValueError as error:
        raise BadLabels(str(error)) from None
    if (actual < 0).any() or (counts < 0).any() or not counts.sum():
        raise BadLabels("must be tokens from 0 on, and bytes of which there are some")
    return actual, counts
