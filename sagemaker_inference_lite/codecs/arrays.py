# SPDX-License-Identifier: Apache-2.0
"""What several codecs do with arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sagemaker_inference_lite.errors import NotAcceptableError

Array = npt.NDArray[Any]

# Arrays of text give every element the room of the longest. One long text among many short ones would make of a body
# that fits into a request an array that does not fit into memory.
MAX_TEXT_ARRAY_BYTES = 256 * 1024 * 1024
_BYTES_PER_CHARACTER = 4


def as_array(value: object, content_type: str) -> Array:
    """The array that numpy makes of value; None stands for what is masked.

    Raises:
        NotAcceptableError: value is ragged.
    """
    if isinstance(value, np.ma.MaskedArray):
        value = np.array(value.tolist(), dtype=object)  # None for what is masked, which asarray() would show
    try:
        return np.asarray(value)
    except ValueError as error:
        raise NotAcceptableError(f"{content_type} cannot hold the prediction: it is ragged.") from error


def is_plain(array: Array) -> bool:
    """Whether orjson writes the array by itself: numbers of a kind that it knows, in at least one dimension."""
    return array.ndim > 0 and array.dtype.char in "?bBhHiIlLqQfd" and array.dtype.isnative


def dump_numbers(array: Array) -> bytes:
    """JSON of a plain array, null for what is not finite."""
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def array_of_text(texts: list[str]) -> Array | None:
    """An array of one dimension, dtype str, that holds the texts; None where it exceeds MAX_TEXT_ARRAY_BYTES.

    Args:
        texts: None of them ends with NUL, which numpy would drop.
    """
    longest = max(map(len, texts), default=0)
    if _BYTES_PER_CHARACTER * longest * len(texts) > MAX_TEXT_ARRAY_BYTES:
        return None
    return np.array(texts, dtype=np.str_)
