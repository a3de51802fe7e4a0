"""What a trusted metric is computed from, and how it is said that it cannot be.

Knows tables of numbers with their rows' ids, and joins predictions to labels by them. Does not know
files, nor what the numbers mean. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
"""Of integers or floats, with one row for each thing that is predicted."""
Id = int | str

_MOST_NAMED = 60


class Unscorable(ValueError):
    """What is wrong with a candidate's predictions, to follow their name: "holds NaN in row 3"."""


class BadLabels(ValueError):
    """What is wrong with the user's own labels, to follow their name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The arrays of one file."""

    arrays: Mapping[str, Array]
    """By name; the one that counts is called `predictions` or `labels`."""
    ids: Sequence[Id] | None = None
    """Of the rows; None where their order says which is which."""


def finite(values: Array) -> npt.NDArray[np.float64]:
    """Return the values as floats of 64 bits; raises Unscorable if one is NaN or infinite."""
    floats = values.astype(np.float64)
    bad = ~np.isfinite(floats).reshape(len(floats), -1).all(axis=1)
    if bad.any():
        more = f" and {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
        raise Unscorable(f"holds NaN or infinity in row {int(bad.argmax())}{more}")
    return floats


def whole(values: Array) -> npt.NDArray[np.int64]:
    """Return values that are whole numbers, in one dimension, as such; else raises ValueError."""
    if values.ndim != 1:
        raise ValueError(f"has shape {shape_of(values)}, not one number a row")
    floats = values.astype(np.float64)
    is_whole = np.isfinite(floats) & (np.trunc(floats) == floats) & (np.abs(floats) < 2**53)
    if not is_whole.all():
        row = int(np.argmin(is_whole))
        raise ValueError(f"holds {floats[row]:.6g} in row {row}, where a whole number is meant")
    return values.astype(np.int64)


def joined(predictions: Table, labels: Table, name: str) -> Array:
    """Return the predictions called `name` in the order of the labels' rows.

    By ids where the labels have them. Where they have not, nobody could tell one order from
    another, and rows correspond by their number. Raises Unscorable.
    """
    values = predictions.arrays[name]
    rows = len(next(iter(labels.arrays.values())))
    if labels.ids is not None:
        return _by_id(values, predictions.ids, labels.ids)
    if predictions.ids is not None:
        raise Unscorable("has ids, the labels have none")
    if len(values) != rows:
        raise Unscorable(f"holds {len(values)} rows, the labels {rows}")
    return values


def _by_id(values: Array, ids: Sequence[Id] | None, wanted: Sequence[Id]) -> Array:
    if ids is None:
        raise Unscorable("has no ids, the labels have")
    if len(ids) != len(values):
        raise Unscorable(f"holds {len(ids)} ids for {len(values)} rows")
    at = {each: row for row, each in enumerate(ids)}
    if len(at) != len(ids):
        twice = next(each for row, each in enumerate(ids) if at[each] != row)
        raise Unscorable(f"has the id {_shown(twice)} twice")
    if missing := [each for each in wanted if each not in at]:
        raise Unscorable(f"lacks {_some(missing)}")
    if len(ids) > len(wanted):
        known = set(wanted)
        raise Unscorable(f"has {_some([e for e in ids if e not in known])}, unknown to the labels")
    order = np.fromiter((at[each] for each in wanted), dtype=np.intp, count=len(wanted))
    return values[order]


def shape_of(values: Array) -> str:
    """Return the shape in words: "1000 x 10"."""
    return " x ".join(map(str, values.shape))


def _some(ids: Sequence[Id]) -> str:
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return f"the id {_shown(ids[0])}{more}"


def _shown(each: Id) -> str:
    return repr(each)[:_MOST_NAMED]
