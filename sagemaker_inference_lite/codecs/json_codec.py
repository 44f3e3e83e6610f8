# SPDX-License-Identifier: Apache-2.0
"""application/json (RFC 8259)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orjson

from sagemaker_inference_lite.codecs.arrays import Array, dump_numbers, is_plain
from sagemaker_inference_lite.codecs.charsets import without_bom
from sagemaker_inference_lite.codecs.json_lists import (
    array_of_numbers,
    array_or_list,
    holds_only_numbers,
    is_integral,
    read_numbers,
)
from sagemaker_inference_lite.content_types import MediaType
from sagemaker_inference_lite.errors import ClientError

_INSTANCES = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"instances"[ \t\r\n]*:')


def decode_json(body: bytes, media_type: MediaType) -> object:
    """Decodes application/json.

    A list, nested or not, that is not ragged becomes an array where it holds nothing but numbers: int64 where all
    its numbers are integers that int64 holds, float64 otherwise; [] is an array of shape (0,). Where it holds nothing
    but text it becomes an array of dtype str, unless that would take more than 256 MiB. An object whose only key is
    "instances" stands for the list that is its value, as clients of TensorFlow Serving send it. Everything else stays
    as it is: lists that are ragged, mixed, deeper than numpy's dimensions, or that hold true, null or objects are
    lists, other objects are dicts with lists inside, and single numbers are int or float. NaN and Infinity are not
    JSON (RFC 8259, section 6). A charset has no meaning here (section 11), and a byte order mark is passed over.

    Raises:
        ClientError: 400. The body is not one JSON text in UTF-8, or is nested more than 1,024 deep.
    """
    text = without_bom(body)
    listed = _instances(text)
    is_numeric = holds_only_numbers(listed)
    integral = is_numeric and is_integral(listed)
    numbers = read_numbers(listed, np.int64 if integral else np.float64) if is_numeric else None
    if numbers is not None:
        return numbers
    value = _list_of_instances(_parsed(text))
    if not isinstance(value, list):
        return value
    if not is_numeric:
        return array_or_list(value)
    numbers = array_of_numbers(value, integral=integral)
    return value if numbers is None else numbers


def _instances(text: bytes) -> bytes:
    """What stands behind the only key of an object, if that is "instances" and no other is seen; else the text.

    It is JSON if the text is, unless it has a second key, or a mistake that reading the whole will find.
    """
    found = _INSTANCES.match(text)
    if found is None:
        return text
    end = text.rfind(b"}")
    return text if text[end + 1 :].strip(b" \t\r\n") else text[found.end() : end]


def _list_of_instances(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("instances"), list):
        return value["instances"]
    return value


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ClientError(400, f"The body is not JSON: {error.msg} at {where}; expected one JSON value.") from error


def encode_json(value: object) -> bytes:
    """Encodes as application/json (RFC 8259), in UTF-8.

    Takes what Python's json takes, and arrays and scalars of numpy, and whatever else has ``tolist()`` or
    ``__array__()``, wherever they stand. NaN and the infinities become null, for which JSON has no other word. Keys
    that are numbers become text. Dates and times, those of numpy included, become text by RFC 3339; NaT is null.

    Raises:
        TypeError: value holds an object without a form in JSON (bytes, sets and complex numbers among them), an
            integer of more than 64 bits, or is nested more than about 250 deep.
    """
    if type(value) is np.ndarray and is_plain(value):
        return dump_numbers(value)
    try:
        return orjson.dumps(value, default=_json_default)
    except orjson.JSONEncodeError:
        # Keys that are not text are rare, and looking out for them slows all others down.
        return orjson.dumps(value, default=_json_default, option=orjson.OPT_NON_STR_KEYS)


def _json_default(value: Any) -> object:
    """What orjson is to write for an object that it does not know.

    Arrays of dates and times are why it is not left to write those of numpy by itself: it makes a date of NaT.
    """
    if isinstance(value, (np.ndarray, np.datetime64)):
        return _json_array(np.asanyarray(value))
    if isinstance(value, np.longdouble):
        return float(value)  # its tolist() is a longdouble again
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__array__"):
        return _json_array(np.asarray(value))
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _json_array(array: Array) -> object:
    if array.dtype.kind == "M":
        # Python's own datetimes, to the microsecond, and None for NaT.
        return array.astype("datetime64[us]").tolist()
    # A subclass may mean more than its numbers: a masked array hides some of them.
    if type(array) is np.ndarray and is_plain(array):
        return orjson.Fragment(dump_numbers(array))
    return array.tolist()
