# SPDX-License-Identifier: Apache-2.0
"""What several codecs do with arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sagemaker_inference_lite.errors import NotAcceptableError

Array = npt.NDArray[Any]


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
