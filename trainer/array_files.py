"""Reads arrays out of bytes that a candidate wrote, as if an enemy had written them.

Knows four formats: npy, npz, safetensors and JSON lines. Does not know files: it is handed bytes.
Nothing is unpickled and nothing that is claimed is believed: what a header says of sizes is
compared with the bytes that are there before anything of that size is made, and what is packed is
unpacked only so far. So memory is bounded by a few times `most_bytes`, and time by it too.

Our own reader, not numpy.load: that unpacks whole members of an npz before it looks, and takes
dtypes with Python objects, strings and records apart, which nobody needs. Nor the library of
safetensors: it hands out no bfloat16 without torch, which costs seconds to import.
"""

import ast
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.scorable import Array, Id, Table, Unscorable
from trainer.json_lines import read_json_lines, without_constants

IDS = "ids"
"""The array that names the rows."""

_NPY = b"\x93NUMPY"
_MOST_HEADER = 1 << 16
_MOST_DIMENSIONS = 4
_MOST_ARRAYS = 16
_MOST_TENSOR_HEADER = 1 << 20
_DTYPES = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_TENSORS = {
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    OverflowError,
    RuntimeError,  # it is encrypted, or asks for what zipfile does not implement
)
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_table(name: str, data: bytes, *, main: str, most_bytes: int) -> Table:
    """Return the arrays of a file.

    Args:
        name: the file's, by whose end its format is known: one of trainer.config.READABLE.
        data: what the file holds.
        main: the array that counts. A single array is that one, whatever it is called; in JSON
            lines, the key that has the number is `main` without its s.
        most_bytes: how much it may hold once it is unpacked.

    Raises:
        Unscorable: it is not what it should be.
    """
    if name.endswith(".jsonl"):
        return read_json_lines(data, main=main)
    if name.endswith(".npy"):
        return Table(arrays={main: _npy(data)})
    read = _safetensors if name.endswith(".safetensors") else _npz
    arrays = dict(read(data, most_bytes))
    ids = arrays.pop(IDS, None)
    if len(arrays) == 1:
        arrays = {main: next(iter(arrays.values()))}
    if main not in arrays:
        raise Unscorable(f"has several arrays, and none called {main}")
    return Table(arrays=arrays, ids=None if ids is None else _ids(ids))


def _npy(data: bytes) -> Array:
    """See numpy.lib.format for the format."""
    if not data.startswith(_NPY) or len(data) < 12:
        raise Unscorable("is no npy file")
    wide = data[6] > 1
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if data[6] not in {1, 2, 3} or length > min(_MOST_HEADER, len(data) - start):
        raise Unscorable("has a header that is no npy file's")
    try:
        header = ast.literal_eval(data[start : start + length].decode("utf-8").strip())
        descr, is_fortran = header["descr"], header["fortran_order"]
        shape = header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise Unscorable("has a header that is no npy file's") from error
    if not isinstance(descr, str) or descr[:1] not in "<>|=" or descr[1:] not in _DTYPES:
        raise Unscorable(f"is of type {str(descr)[:40]!r}: only integers and floats are read")
    return _array(data[start + length :], descr, shape, order="F" if is_fortran is True else "C")


def _npz(data: bytes, most_bytes: int) -> Mapping[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = _unpacked(archive, most_bytes)
    except Unscorable:
        raise
    except _BROKEN_ARCHIVE as error:
        raise Unscorable("is no npz file") from error
    return {name: _npy(content) for name, content in contents.items()}


def _unpacked(archive: zipfile.ZipFile, most_bytes: int) -> Mapping[str, bytes]:
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if not 0 < len(members) <= _MOST_ARRAYS:
        raise Unscorable(f"holds {len(members)} arrays, not 1 to {_MOST_ARRAYS}")
    if len(set(names)) != len(names):
        raise Unscorable("holds an array twice")
    contents = {}
    for name, member in zip(names, members, strict=True):
        if member.compress_type not in _PACKINGS:
            raise Unscorable("is packed by another method than deflate")
        with archive.open(member) as file:
            contents[name] = file.read(most_bytes + 1)  # whatever the headers say of its size
        most_bytes -= len(contents[name])
        if most_bytes < 0:
            raise Unscorable("holds too much once it is unpacked")
    return contents


def _safetensors(data: bytes, _: int) -> Mapping[str, Array]:
    """See https://github.com/huggingface/safetensors#format ."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MOST_TENSOR_HEADER, len(data) - 8):
        raise Unscorable("has a header that is no safetensors file's")
    try:
        header = json.loads(data[8 : 8 + length], parse_constant=without_constants)
        header.pop("__metadata__", None)
        entries = [(n, e["dtype"], e["shape"], *e["data_offsets"]) for n, e in header.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unscorable("has a header that is no safetensors file's") from error
    if not 0 < len(entries) <= _MOST_ARRAYS:
        raise Unscorable(f"holds {len(entries)} arrays, not 1 to {_MOST_ARRAYS}")
    body = memoryview(data)[8 + length :]
    return {name: _tensor(body, *entry) for name, *entry in entries}


def _tensor(body: memoryview, dtype: Any, shape: Any, begin: Any, end: Any) -> Array:  # noqa: ANN401
    if not all(type(each) is int and 0 <= each <= len(body) for each in (begin, end)):
        raise Unscorable("has a tensor outside of the file")
    content = body[begin:end]
    if dtype == "BF16":  # the upper half of a float of 32 bits
        halves = _array(content, "<u2", shape)
        return (halves.astype(np.uint32) << 16).view(np.float32)
    if not isinstance(dtype, str) or dtype not in _TENSORS:
        raise Unscorable(f"is of type {str(dtype)[:40]!r}: only integers and floats are read")
    return _array(content, _TENSORS[dtype], shape)


def _array(content: "bytes | memoryview", dtype: str, shape: Any, order: str = "C") -> Array:  # noqa: ANN401
    if isinstance(shape, list):
        shape = tuple(shape)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise Unscorable("has a header without a shape")
    if not 1 <= len(shape) <= _MOST_DIMENSIONS:
        raise Unscorable(f"has {len(shape)} dimensions, not 1 to {_MOST_DIMENSIONS}")
    claimed = math.prod(shape) * np.dtype(dtype).itemsize
    if claimed != len(content):
        raise Unscorable(f"claims {_count(claimed)} bytes of numbers and holds {len(content)}")
    ordered = shape if order == "C" else shape[::-1]
    found: Array = np.frombuffer(content, dtype=np.dtype(dtype)).reshape(ordered)
    return found if order == "C" else found.T


def _count(number: int) -> str:
    return str(number) if number < 10**18 else "far too many"


def _ids(values: Array) -> list[Id]:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise Unscorable("has ids that are not one whole number a row")
    return [int(each) for each in values]
