"""Every format as its own library writes it, and files that an enemy wrote."""

import io
import json
import pickle
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from eval.scorable import Unscorable
from trainer.array_files import read_table

MOST = 1 << 20
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def read(name, data, main="predictions"):
    return read_table(name, data, main=main, most_bytes=MOST)


def npy(values, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), **options)
    return file.getvalue()


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def npy_claiming(header, body=b""):
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def safetensors(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(values, dtype):
    data = values.tobytes()
    return {"dtype": dtype, "shape": list(values.shape), "data_offsets": [0, len(data)]}, data


def zipped(*members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", "|i1", "<i8", ">u4"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_as_numpy_writes_it(dtype, version):
    for values in (VALUES.astype(dtype), np.asfortranarray(VALUES.astype(dtype))):
        found = read("p.npy", npy(values, version=version)).arrays["predictions"]
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_as_numpy_writes_it(save):
    table = read("p.npz", npz(save, predictions=VALUES, ids=np.array([7, 8, 9]), more=VALUES))
    np.testing.assert_array_equal(table.arrays["predictions"], VALUES)
    assert table.ids == [7, 8, 9]


def test_a_single_array_may_have_any_name():
    assert set(read("p.npz", npz(arr_0=VALUES)).arrays) == {"predictions"}
    assert set(read("l.npz", npz(arr_0=VALUES), main="labels").arrays) == {"labels"}
    with pytest.raises(Unscorable, match="has several arrays, and none called predictions"):
        read("p.npz", npz(a=VALUES, b=VALUES))


@pytest.mark.parametrize(("dtype", "name"), [("<f4", "F32"), ("<f2", "F16"), ("<i8", "I64")])
def test_safetensors(dtype, name):
    entry, data = tensor(VALUES.astype(dtype), name)
    header = {"__metadata__": {"format": "pt"}, "scores": entry}
    found = read("p.safetensors", safetensors(header, data)).arrays["predictions"]
    np.testing.assert_array_equal(found, VALUES.astype(dtype))


def test_bfloat16_is_read_without_torch():
    halves = (VALUES.view(np.uint32) >> 16).astype(np.uint16)
    entry, data = tensor(halves, "BF16")
    found = read("p.safetensors", safetensors({"p": entry}, data)).arrays["predictions"]
    np.testing.assert_array_equal(found, VALUES)  # so small numbers are exact in it


def test_json_lines():
    bare = read("p.jsonl", b"0.5\n1\n\n-2e-3\n")
    assert bare.arrays["predictions"].tolist() == [0.5, 1.0, -0.002]
    assert bare.ids is None
    named = read("p.jsonl", b'{"id":"a","prediction":[1,2]}\n{"id":7,"prediction":[3,4]}')
    assert named.arrays["predictions"].tolist() == [[1, 2], [3, 4]]
    assert named.ids == ["a", 7]
    labels = read("l.jsonl", b'{"id":1,"label":3,"bytes":2}', main="labels")
    assert labels.arrays["labels"].tolist() == [3]
    assert labels.arrays["bytes"].tolist() == [2]


class Touch:
    """Unpickled, it would end the process."""

    def __reduce__(self):
        return (sys.exit, ("unpickled",))


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"
BOMB = zipped(("predictions.npy", b"\0" * 50 * MOST))
LIE = bytearray(zipped(("predictions.npy", npy(np.zeros(9)) + b"\0" * 50 * MOST)))
"""Says, in both of its headers, that it unpacks to 200 bytes."""
_central = LIE.rindex(b"PK\x01\x02")
LIE[22:26] = LIE[_central + 24 : _central + 28] = struct.pack("<I", 200)
TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("p.npy", b"", "is no npy file"),
        ("p.npy", pickle.dumps(Touch()), "is no npy file"),
        ("p.npy", npy(np.array([Touch()], dtype=object), allow_pickle=True), "is of type '|O'"),
        ("p.npy", npy(np.array(["a"])), "is of type '<U1'"),
        ("p.npy", npy(np.array([1j])), "is of type '<c16'"),
        ("p.npy", npy(np.array([True])), "is of type '|b1'"),
        ("p.npy", npy(np.zeros(2, dtype="f4,f4")), "is of type \"[('f0'"),
        ("p.npy", npy(np.float64(1.0)), "has 0 dimensions"),
        ("p.npy", npy(np.zeros((1, 1, 1, 1, 1))), "has 5 dimensions"),
        ("p.npy", npy(VALUES)[:-1], "claims 48 bytes of numbers and holds 47"),
        ("p.npy", npy(VALUES) + b"\0", "claims 48 bytes of numbers and holds 49"),
        ("p.npy", npy_claiming(GOOD.replace("3", "1 << 40")), "has a header that is no"),
        ("p.npy", npy_claiming(GOOD.replace("3", str(1 << 50))), "claims 4503599627370496 bytes"),
        ("p.npy", npy_claiming(GOOD.replace("3", "9" * 4000)), "claims far too many bytes"),
        ("p.npy", npy_claiming(GOOD.replace("3", "9" * 9999)), "has a header that is no npy"),
        ("p.npy", npy_claiming(GOOD.replace("3", "-1")), "has a header without a shape"),
        ("p.npy", npy_claiming(GOOD.replace("3", "True")), "has a header without a shape"),
        ("p.npy", npy_claiming("[" * 20000), "has a header that is no npy"),
        ("p.npy", npy_claiming("-" * 60000 + "1"), "has a header that is no npy"),
        ("p.npy", npy_claiming("__import__('os').abort()"), "has a header that is no npy"),
        ("p.npy", npy_claiming("{}"), "has a header that is no npy"),
        ("p.npy", b"\x93NUMPY\x01\x00\xff\xff{}", "has a header that is no npy"),
        ("p.npy", b"\x93NUMPY\x09\x00" + npy(VALUES)[8:], "has a header that is no npy"),
        ("p.npz", b"PK", "is no npz file"),
        ("p.npz", npz(p=VALUES)[:-9], "is no npz file"),
        ("p.npz", zipped(), "holds 0 arrays, not 1 to 16"),
        ("p.npz", zipped(*((f"{n}.npy", b"") for n in range(17))), "holds 17 arrays"),
        ("p.npz", zipped(("p.npy", pickle.dumps(Touch()))), "is no npy file"),
        ("p.npz", zipped(("p.npy", npy(VALUES)), compression=zipfile.ZIP_LZMA), "is packed by"),
        ("p.npz", zipped(("a.npy", npy(VALUES)), ("a", npy(VALUES))), "holds an array twice"),
        ("p.npz", npz(p=VALUES, ids=np.array([0.5, 1, 2])), "has ids that are not one whole"),
        ("p.npz", BOMB, "holds too much once it is unpacked"),
        ("p.npz", bytes(LIE), "is no npz file"),
        ("p.safetensors", b"\0", "has a header that is no safetensors"),
        ("p.safetensors", b"\xff" * 64, "has a header that is no safetensors"),
        ("p.safetensors", safetensors(b"[" * 100000), "has a header that is no safetensors"),
        ("p.safetensors", safetensors(b"[1]"), "has a header that is no safetensors"),
        ("p.safetensors", safetensors({}), "holds 0 arrays"),
        ("p.safetensors", safetensors({"p": TENSOR}), "has a tensor outside of the file"),
        ("p.safetensors", safetensors({"p": {**TENSOR, "shape": [2]}}, b"0000"), "claims 8 bytes"),
        ("p.safetensors", safetensors({"p": {**TENSOR, "shape": [1e9]}}, b"0000"), "has a header"),
        ("p.safetensors", safetensors({"p": {**TENSOR, "dtype": "BOOL"}}, b"0000"), "is of type"),
        ("p.safetensors", safetensors({"p": {**TENSOR, "dtype": []}}, b"0000"), "is of type"),
        ("p.jsonl", b"", "holds no line"),
        ("p.jsonl", b"1\n\xff\n", "has no JSON in line 2"),
        ("p.jsonl", b"NaN", "has no JSON in line 1"),
        ("p.jsonl", b"[" * 100000, "has no JSON in line 1"),
        ("p.jsonl", b"9" * 5000, "has no JSON in line 1"),
        ("p.jsonl", b"9" * 99, "holds numbers that are too large"),
        ("p.jsonl", b"true", "has no number, nor a list of numbers, in line 1"),
        ("p.jsonl", b"[1]\n[1, 2]", "has lines of different lengths"),
        ("p.jsonl", b"[[1]]", "has no number, nor a list of numbers, in line 1"),
        ("p.jsonl", b'{"id": 1}', "has no number, nor a list of numbers, in line 1"),
        ("p.jsonl", b'{"prediction": 1}', "has no id, a whole number or a short text, in line 1"),
        ("p.jsonl", b'1\n{"id": 1, "prediction": 1}', "has ids in some lines and none in others"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_files_that_an_enemy_wrote(name, data, reason):
    with pytest.raises(Unscorable) as caught:
        read(name, data)
    assert str(caught.value).startswith(reason)


def test_what_is_claimed_or_packed_costs_no_memory():
    for name, data in (("p.npy", npy_claiming(GOOD.replace("3", str(1 << 50)))), ("p.npz", BOMB)):
        tracemalloc.start()
        with pytest.raises(Unscorable):
            read(name, data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * MOST
