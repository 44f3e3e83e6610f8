# SPDX-License-Identifier: Apache-2.0
"""application/jsonlines: one JSON value a line."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson

from sagemaker_inference_lite.codecs.arrays import dump_numbers, is_plain
from sagemaker_inference_lite.codecs.charsets import without_bom
from sagemaker_inference_lite.codecs.json_codec import encode_json
from sagemaker_inference_lite.codecs.json_lists import (
    array_of_numbers,
    array_or_list,
    holds_only_numbers,
    is_integral,
)
from sagemaker_inference_lite.content_types import MediaType
from sagemaker_inference_lite.errors import ClientError


def decode_json_lines(body: bytes, media_type: MediaType) -> object:
    """Decodes application/jsonlines into what the JSON list of its values would be.

    That is an array where all lines are numbers or all are text, or equally shaped lists of such; otherwise a list.
    Lines end with LF or CRLF, the last one may end without, and empty ones are passed over. It is UTF-8 whatever the
    charset says, as JSON is, and a byte order mark at its beginning is passed over.

    Raises:
        ClientError: 400. The body is empty, or a line is not one JSON value by itself; the message names the line,
            from 1 on.
    """
    text = without_bom(body)
    values = _values(text)
    if not values:
        raise ClientError(400, "The body is empty; expected JSON Lines, one JSON value a line.")
    if not holds_only_numbers(text):
        return array_or_list(values)
    numbers = array_of_numbers(values, integral=is_integral(text))
    return values if numbers is None else numbers


def _values(text: bytes) -> list[Any]:
    # One after the other: what is no JSON by itself must not become some together with the next line.
    lines = (line.rstrip(b" \t\r\n") for line in io.BytesIO(text))
    return [_parsed(line, number) for number, line in enumerate(lines, 1) if line]


def _parsed(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        where = f"line {number}, column {error.colno}"
        raise ClientError(
            400, f"The body is not JSON Lines: {error.msg} at {where}; expected one JSON value a line."
        ) from error


def encode_json_lines(value: object) -> bytes:
    """Encodes as application/jsonlines, in UTF-8, with LF at the end of each line.

    Of an array each element of the first axis is a line, of a list or tuple each element; nothing is a body of no
    lines. Anything else is one line. Each line is what `encode_json` makes of it, null for NaN among others.

    Raises:
        TypeError: As `encode_json` does.
    """
    value = _listed(value)
    if type(value) is np.ndarray and value.size and is_plain(value):
        # Only between two elements do all lists of the one end and all of the next begin.
        ends, begins = b"]" * (value.ndim - 1), b"[" * (value.ndim - 1)
        return dump_numbers(value)[1:-1].replace(ends + b"," + begins, ends + b"\n" + begins) + b"\n"
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return b"".join(encode_json(element) + b"\n" for element in value)
    return encode_json(value) + b"\n"


def _listed(value: Any) -> object:
    """The list or the array that stands behind an object of another library's; any other value as it is."""
    if isinstance(value, (np.ndarray, np.generic, list, tuple)):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    return np.asarray(value) if hasattr(value, "__array__") else value
