"""The metric of predicted quantities. Pure."""

import numpy as np
import numpy.typing as npt

from eval.scorable import Array, BadLabels, Unscorable, finite, shape_of


def mse(predictions: Array, labels: Array) -> float:
    """Return the mean squared error, in the square of the labels' unit, over all numbers.

    Both have the same shape: (n,), or (n, ...) for several quantities a row. A trailing 1, as
    networks leave it, is none.
    """
    given = predictions
    if given.ndim == labels.ndim + 1 and given.shape[-1] == 1:
        given = given[..., 0]
    if given.shape != labels.shape:
        raise Unscorable(f"has shape {shape_of(given)}, the labels {shape_of(labels)}")
    actual = quantities_of(labels)
    with np.errstate(over="ignore"):  # what comes out then is not finite, and refused
        return float(np.mean((finite(given) - actual) ** 2))


def quantities_of(labels: Array) -> npt.NDArray[np.float64]:
    """Return the labels as finite numbers; raises BadLabels."""
    try:
        return finite(labels)
    except Unscorable as error:
        raise BadLabels(str(error)) from None
