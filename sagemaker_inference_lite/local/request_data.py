# SPDX-License-Identifier: Apache-2.0
"""The body of a request and its type, from what a person typed or from a file's name."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import NamedTuple

from sagemaker_inference_lite import content_types

_BY_SUFFIX = {
    ".arrow": content_types.ARROW_STREAM,
    ".arrows": content_types.ARROW_STREAM,
    ".csv": content_types.CSV,
    ".jpeg": content_types.JPEG,
    ".jpg": content_types.JPEG,
    ".json": content_types.JSON,
    ".jsonl": content_types.JSON_LINES,
    ".ndjson": content_types.JSON_LINES,
    ".npy": content_types.NPY,
    ".npz": content_types.NPZ,
    ".parquet": content_types.PARQUET,
    ".png": content_types.PNG,
    ".txt": content_types.TEXT_PLAIN,
}

_SHOWN_AS_TEXT = (content_types.JSON_LINES, content_types.X_JSON_LINES, "application/xml")


class RequestData(NamedTuple):
    """A request's body and its content type."""

    body: bytes
    content_type: str


def type_of_file(name: str) -> str:
    """The content type of a file by its name; application/octet-stream where that says nothing."""
    return _BY_SUFFIX.get(PurePath(name).suffix.lower(), content_types.OCTET_STREAM)


def type_of_text(text: str) -> str:
    """The content type of what a person typed: JSON where it is that, CSV where it has commas, else plain text."""
    if is_json(text):
        return content_types.JSON
    lines = text.split("\n")
    return content_types.CSV if any("," in line for line in lines) else content_types.TEXT_PLAIN


def type_of_bytes(body: bytes) -> str:
    """The content type of what comes without a name, from a pipe: as of text where it is text."""
    try:
        return type_of_text(body.decode())
    except UnicodeDecodeError:
        return content_types.NPY if body.startswith(b"\x93NUMPY") else content_types.OCTET_STREAM


def is_json(text: str | bytes) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def is_text(content_type: str) -> bool:
    """Whether a body of this type can be shown at a terminal."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence.startswith("text/") or essence.endswith(("json", "+xml")) or essence in _SHOWN_AS_TEXT
