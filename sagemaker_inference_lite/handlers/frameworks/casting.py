# SPDX-License-Identifier: Apache-2.0
"""A request's values as arrays, where that changes nothing in them but for rounding."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt

from sagemaker_inference_lite.errors import ClientError

Array = npt.NDArray[Any]


def cast(value: object, dtype: np.dtype[Any], what: str) -> Array:
    """The value as an array of that type, where that changes nothing in it but for rounding."""
    try:
        array = as_array(value)
        with np.errstate(all="ignore"):
            changed = array.astype(dtype)
        is_kept = _is_kept(array, changed)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths, or with text among numbers
        is_kept = False
    if not is_kept:
        raise ClientError(400, f"{what} takes {_MEANT[dtype.kind]} ({dtype}); the request has other values.")
    return changed


def _is_kept(array: Array, cast: Array) -> bool:
    if cast.dtype.kind == "O":
        return array.dtype.kind == "U" or all(isinstance(each, str) for each in array.flat)
    if cast.dtype.kind == "f" and array.dtype.kind == "O":
        # Null, which stands for what is missing, is NaN then; but text that reads like a number is a number, too.
        return all(each is None or isinstance(each, Number) for each in array.flat)
    if cast.dtype.kind == "f":
        return array.dtype.kind in "biuf"
    return array.dtype.kind in "biuf" and bool(np.all(cast == array))


_MEANT = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "b": "true and false", "O": "text"}


def as_array(value: object) -> Array:
    """The array that the value is or holds: of numbers where it holds nothing else, else of objects.

    Texts stay objects, because numpy gives each text of an array the room of the longest, and they are a client's.
    """
    if isinstance(value, np.ndarray):
        return value
    objects = np.array(value, dtype=np.object_)
    has_numbers_alone = all(issubclass(kind, _NUMBERS) for kind in set(map(type, objects.flat)))
    return np.asarray(value) if has_numbers_alone else objects


_NUMBERS = (int, float, np.number, np.bool_)
