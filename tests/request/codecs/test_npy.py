# SPDX-License-Identifier: Apache-2.0
"""application/x-npy: bodies to arrays and back, and headers that are out to harm."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from bodies import array_of, refusal, status_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import encode
from sagemaker_inference_lite.content_types import NPY
from sagemaker_inference_lite.errors import NotAcceptableError


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An NPY body with that header, whatever it says."""
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "f2", ">f8", "i1", "u8", "?", "c16", "M8[ns]", "m8[s]", "U3", "S2", "V4"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 5), (2, 0), (2, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_survives_a_round_trip(dtype: str, shape: tuple[int, ...], order: Any) -> None:
    """Arrays of all types that hold no objects are read back with their type, shape and order."""
    array = np.zeros(shape, dtype, order)
    body, content_type = encode(array, NPY)
    decoded = array_of(body, content_type)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert decoded.tobytes() == array.tobytes()
    assert decoded.flags.f_contiguous == array.flags.f_contiguous


def test_npy_array_is_the_callers_own() -> None:
    """A decoded array can be written to, and leaves the body as it was."""
    body = bytearray(encode([1.5, 2.5], NPY)[0])
    array = array_of(body, NPY)
    array[0] = 7
    assert array_of(body, NPY).tolist() == [1.5, 2.5]


def test_npy_of_version_2_and_structured_arrays_are_read() -> None:
    """Version 2.0, and arrays with fields, are read as numpy reads them."""
    array = np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))
    assert array_of(stream.getvalue(), NPY).tolist() == array.tolist()


def test_pickles_are_not_run() -> None:
    """An array of objects, a pickle and a pickle within NPY are refused, and what they would run is not run."""

    class Exploit:
        def __reduce__(self) -> Any:
            return exec, ("raise SystemExit('the pickle was run')",)

    stream = io.BytesIO()
    np.save(stream, np.array([Exploit()], dtype=object), allow_pickle=True)
    assert "not unpickled" in refusal(stream.getvalue(), NPY)
    assert "is not NPY" in refusal(pickle.dumps(Exploit()), NPY)


GOOD_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n"


@pytest.mark.parametrize("cut", [0, 3, 6, 8, 10, 60, -1])
def test_truncated_npy_is_400(cut: int) -> None:
    """A body that ends early, wherever, is the client's mistake."""
    refusal(encode([1.5, 2.5], NPY)[0][:cut], NPY)


def test_npy_with_something_behind_it_is_400() -> None:
    """A body must be exactly one array."""
    message = refusal(encode([1.5, 2.5], NPY)[0] + b"x", NPY)
    assert message == "The NPY body has 17 bytes behind its header; expected an array of shape (2,) and type float64."


@pytest.mark.parametrize(
    "body",
    [
        npy(GOOD_HEADER.replace("(2,)", "(1000000000000,)"), b"x" * 16),
        npy(GOOD_HEADER.replace("(2,)", "(1000000000000,)"), b"x" * 16, version=2),
        npy(GOOD_HEADER.replace("(2,)", f"({10**4000}, {10**4000})")),
        npy(GOOD_HEADER.replace("(2,)", f"(0x{'f' * 9000},)")),
        npy(GOOD_HEADER.replace("(2,)", "(1000000000000, 0)")),
        npy(GOOD_HEADER.replace("(2,)", f"(0, {10**30})")),
        npy(GOOD_HEADER.replace("(2,)", "(-1, -2)"), b"x" * 16),
        npy(GOOD_HEADER.replace("(2,)", "(" + "1, " * 3000 + ")"), b"x" * 8),
        npy(GOOD_HEADER.replace("<f8", "<U0").replace("(2,)", "(1000000000000,)")),
        npy(GOOD_HEADER.replace("'<f8'", "[]").replace("(2,)", "(1000000000000,)")),
        npy(GOOD_HEADER.replace("<f8", "|O"), b"x" * 16),
        npy(GOOD_HEADER.replace("'<f8'", "[('a', '|O')]"), b"x" * 16),
        npy(GOOD_HEADER.replace("<f8", "no type"), b"x" * 16),
        npy(GOOD_HEADER.replace("<f8", "(100000000000,)f8"), b"x" * 16),
        npy(GOOD_HEADER, b"x" * 16, version=3),
        npy(GOOD_HEADER, b"x" * 16, version=9),
        npy("-" * 9900 + "1"),
        npy("1+" * 4900 + "1"),
        npy("[" * 9900),
        npy("(" * 190 + ")" * 190),
        npy("{" * 90 + "}" * 90),
        npy("a." * 4900 + "a"),
        npy("'''"),
        npy("\0"),
        npy(""),
        npy(" " * 60_000),
        npy(" " * 1_000_000, version=2),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"PK\x03\x04" + b"\0" * 60,
    ],
    ids=range(29),
)
def test_hostile_npy_is_400(body: bytes) -> None:
    """Headers that promise too much, nest too deeply or are nonsense are the client's mistake, and allocate nothing."""
    refusal(body, NPY)


def test_no_message_says_where_something_lies_in_memory() -> None:
    """What Python says of a header may name an address, which is no client's business."""
    message = refusal(npy(GOOD_HEADER.replace("(2,)", "(0,)+()*1")), NPY)
    assert "malformed node or string" in message
    assert " at 0x" not in message


@pytest.mark.parametrize(
    "value", [{"a": 1}, None, [[1, 2], [3]], np.array([object()]), np.ma.array([1, 2], mask=[False, True])]
)
def test_what_npy_cannot_hold_is_406(value: object) -> None:
    """A prediction that would have to be pickled, or that hides some of its numbers, is not acceptable as NPY."""
    with pytest.raises(NotAcceptableError, match="application/x-npy"):
        encode(value, NPY)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_garbage_decodes_or_is_400(body: bytes) -> None:
    """No bytes do anything but decode, or raise ClientError with status 400."""
    assert status_of(body, NPY) in (200, 400)


@given(st.integers(0, 143), st.integers(0, 255))
@settings(max_examples=300)
def test_npy_with_a_wrong_byte_decodes_or_is_400(position: int, byte: int) -> None:
    """An NPY body with any one byte changed decodes to something, or raises ClientError with status 400."""
    body = bytearray(encode([1.5, 2.5], NPY)[0])
    body[position] = byte
    assert status_of(body, NPY) in (200, 400)
