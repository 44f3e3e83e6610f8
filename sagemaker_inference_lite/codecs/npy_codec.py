# SPDX-License-Identifier: Apache-2.0
"""application/x-npy (numpy.lib.format)."""

from __future__ import annotations

import io
import math
from itertools import takewhile
from typing import Any

import numpy as np

from sagemaker_inference_lite.codecs.arrays import Array, as_array
from sagemaker_inference_lite.codecs.libraries import reason_of
from sagemaker_inference_lite.content_types import MAX_QUOTED, NPY, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError

# numpy reads the header with ast.literal_eval(), and has this limit itself from 1.24 on.
_MAX_NPY_HEADER_BYTES = 10_000
_MAX_NPY_MAGIC_BYTES = 12  # what stands before the header, its length among it


def decode_npy(body: bytes, media_type: MediaType) -> Array:
    """Decodes application/x-npy: one array in numpy's own format, version 1.0 or 2.0, and nothing behind it.

    Returns:
        An array of its own memory, writable, with the dtype, shape and order that the body states.

    Raises:
        ClientError: 400. The body is not in that format, holds objects (which would have to be unpickled), or is
            not exactly as long as its header says. Nothing is allocated before that is known.
    """
    array: Array = _view(body).copy(order="K")
    return array


def read_npy(body: bytes | bytearray) -> Array:
    """Reads as `decode_npy` does, without a copy where there need be none.

    Returns:
        An array that shares the body's memory, unless that lies where numbers of its dtype may not; writable where
        the body is.

    Raises:
        ClientError: 400, as for `decode_npy`.
    """
    view = _view(body)
    return view if view.flags.aligned else view.copy(order="K")


def _view(body: bytes | bytearray) -> Array:
    stream = io.BytesIO(memoryview(body)[: _MAX_NPY_HEADER_BYTES + _MAX_NPY_MAGIC_BYTES])
    shape, is_fortran, dtype = _npy_header(stream, body)
    if dtype.hasobject:
        raise ClientError(400, "The NPY body holds Python objects, which are not unpickled; expected numbers or text.")
    start = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    # Without a byte for each row, a few bytes could promise rows without end.
    if size != len(body) - start or not dtype.itemsize or math.prod(takewhile(bool, shape)) > len(body):
        raise ClientError(
            400,
            f"The NPY body has {len(body) - start} bytes behind its header; expected {_promised(shape, dtype)}.",
        )
    try:
        return np.ndarray(shape, dtype, body, start, order="F" if is_fortran else "C")
    except (OverflowError, TypeError, ValueError) as error:
        raise ClientError(400, f"The NPY body cannot be read: {error}.") from error


def _promised(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    # In hexadecimal the header can hold numbers that Python refuses to write in decimal.
    if any(abs(size) >> 64 for size in shape):
        return "an array of more elements than can be counted"
    return f"an array of shape {shape} and type {dtype}"[:MAX_QUOTED]


def _npy_header(stream: io.BytesIO, body: bytes | bytearray) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and dtype; leaves the stream behind the header."""
    try:
        version = np.lib.format.read_magic(stream)
        length = int.from_bytes(body[8:10] if version == (1, 0) else body[8:12], "little")
        if length > _MAX_NPY_HEADER_BYTES:
            raise ValueError(f"its header has {length} bytes; expected at most {_MAX_NPY_HEADER_BYTES}")
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(stream)
        raise ValueError("its version is {}.{}; expected 1.0 or 2.0".format(*version))
    # numpy evaluates the header as a literal of Python's, and lets out whatever that raises: ValueError, TypeError,
    # SyntaxError, TokenError, RecursionError, even MemoryError for one that is nested too deeply.
    except Exception as error:
        raise ClientError(400, f"The body is not NPY: {reason_of(error)}.") from error


def encode_npy(value: object) -> bytes:
    """Encodes as application/x-npy: the array, or the one that numpy makes of value.

    Raises:
        NotAcceptableError: value is ragged, or holds objects that would have to be pickled.
    """
    return write_npy(as_array(value, NPY), NPY)


def write_npy(array: Array, content_type: str) -> bytes:
    """Writes as `encode_npy` does, for the content type that the error names."""
    if array.dtype.hasobject:
        raise NotAcceptableError(f"{content_type} cannot hold the prediction: it is not an array of numbers or text.")
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
