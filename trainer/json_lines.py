"""Reads a table out of JSON lines: a number a line, or an object with an id.

Knows `0.7`, `[0.1, 0.9]` and `{"id": "a17", "prediction": 0.7}`, each a row. Does not know files.
"""

import json
from typing import NoReturn

import numpy as np

from eval.scorable import Array, Id, Table, Unscorable

_MOST_ID = 200
_EXTRA = "bytes"
"""What labels may have besides: see eval.likelihood."""

Row = int | float | list[int | float]


def read_json_lines(data: bytes, *, main: str) -> Table:
    """Return the table; the key of an object's number is `main` without its s.

    Raises Unscorable.
    """
    key = main.removesuffix("s")
    rows: list[Row] = []
    ids: list[Id] = []
    extra: list[Row] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        value = _parsed(line, number)
        if isinstance(value, dict):
            ids.append(_id(value.get("id"), number))
            if _EXTRA in value:
                extra.append(_row(value[_EXTRA], number))
            value = value.get(key)
        rows.append(_row(value, number))
    if ids and len(ids) != len(rows):
        raise Unscorable("has ids in some lines and none in others")
    arrays = {main: _array(rows)}
    if extra:
        arrays[_EXTRA] = _array(extra)
    return Table(arrays=arrays, ids=ids or None)


def without_constants(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON; for `parse_constant`."""
    raise ValueError(name)


def _parsed(line: bytes, number: int) -> object:
    try:
        parsed: object = json.loads(line, parse_constant=without_constants)
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"has no JSON in line {number}") from error
    return parsed


def _id(value: object, number: int) -> Id:
    if type(value) is int or (isinstance(value, str) and len(value) <= _MOST_ID):
        return value
    raise Unscorable(f"has no id, a whole number or a short text, in line {number}")


def _row(value: object, number: int) -> Row:
    if type(value) in {int, float}:
        return value  # type: ignore[return-value]
    if isinstance(value, list) and value and all(type(each) in {int, float} for each in value):
        return value
    raise Unscorable(f"has no number, nor a list of numbers, in line {number}")


def _array(rows: list[Row]) -> Array:
    if not rows:
        raise Unscorable("holds no line")
    widths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(widths) > 1:
        raise Unscorable("has lines of different lengths")
    found: Array
    try:
        found = np.array(rows)
    except (ValueError, OverflowError) as error:
        raise Unscorable("holds numbers that are too large") from error
    if found.dtype.kind not in "iuf":
        raise Unscorable("holds numbers that are too large")
    return found
