# SPDX-License-Identifier: Apache-2.0
"""What the tests of the codecs ask of a body."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from sagemaker_inference_lite.codecs import decode, json_lists
from sagemaker_inference_lite.codecs.registry import Body
from sagemaker_inference_lite.errors import ClientError


def refusal(body: bytes, content_type: str, status: int = 400) -> str:
    """The message that a body is refused with."""
    with pytest.raises(ClientError) as caught:
        decode(body, content_type)
    assert caught.value.status == status
    assert len(caught.value.message) < 1000
    return caught.value.message


def status_of(body: Body, content_type: str) -> int:
    """The status that a body is answered with."""
    try:
        decode(body, content_type)
    except ClientError as error:
        return error.status
    return 200


def array_of(body: Body, content_type: str) -> Any:
    """What a body decodes to, which must be an array."""
    value = decode(body, content_type)
    assert isinstance(value, np.ndarray)
    return value


def outcome(body: bytes, content_type: str, *, fast: bool) -> tuple[Any, ...]:
    """All that can be told of what a body decodes to, or of its refusal.

    Args:
        body: The body.
        content_type: Its type.
        fast: Whether simdjson is to read whatever it can, or nothing.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "WORTHWHILE_BYTES", 0 if fast else sys.maxsize)
        try:
            value = decode(body, content_type)
        except ClientError as error:
            return error.status, error.message
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes(), value.flags.writeable, value.flags.c_contiguous
    return type(value), repr(value)  # which tells 1 from 1.0 and 0.0 from -0.0
