# SPDX-License-Identifier: Apache-2.0
"""application/octet-stream and text/plain: bytes and text as they are (RFC 2046, sections 4.5.1 and 4.1.3)."""

from __future__ import annotations

from numbers import Number

import numpy as np

from sagemaker_inference_lite.codecs.charsets import known_charset, text_of, without_bom
from sagemaker_inference_lite.content_types import OCTET_STREAM, TEXT_PLAIN, MediaType
from sagemaker_inference_lite.errors import NotAcceptableError


def decode_octets(body: bytes, media_type: MediaType) -> bytes:
    """Decodes application/octet-stream: the body as it is."""
    return body


def encode_octets(value: object) -> bytes:
    """Encodes as application/octet-stream: bytes, a bytearray or a memoryview, as they are.

    Raises:
        NotAcceptableError: value is anything else, for which the type has no form.
    """
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise NotAcceptableError(f"{OCTET_STREAM} holds bytes, and the prediction is of type {type(value).__name__}.")
    return bytes(value)


def decode_text(body: bytes, media_type: MediaType) -> str:
    """Decodes text/plain into str, line ends as they are.

    Args:
        body: The text.
        media_type: Its parameter ``charset`` is UTF-8 unless it is given; a byte order mark of UTF-8 is passed over.

    Raises:
        UnsupportedMediaTypeError: The charset is none that is known.
        ClientError: 400. The body is not text in its charset; the message names the byte.
    """
    charset = known_charset(media_type.charset)
    return text_of(without_bom(body) if charset == "utf-8" else body, charset)


def encode_text(value: object) -> bytes:
    """Encodes as text/plain, in UTF-8: a str as it is, a single number as Python writes it.

    An array that holds a single number or str counts as that.

    Raises:
        NotAcceptableError: value is anything else, or text with a lone surrogate, which UTF-8 has no bytes for.
    """
    single = value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value
    if not isinstance(single, (str, Number, np.bool_)) or isinstance(single, np.timedelta64):
        raise NotAcceptableError(
            f"{TEXT_PLAIN} holds a text or a single number, and the prediction is of type {type(value).__name__}."
        )
    try:
        return str(single).encode()
    except UnicodeEncodeError as error:
        raise NotAcceptableError(f"{TEXT_PLAIN} cannot hold the prediction: it is not Unicode text.") from error
