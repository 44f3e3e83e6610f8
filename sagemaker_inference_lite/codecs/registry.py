# SPDX-License-Identifier: Apache-2.0
"""The table of codecs: what is registered for a media type, and the dispatch to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Union, cast

from sagemaker_inference_lite.codecs.charsets import known_charset, text_of, without_bom
from sagemaker_inference_lite.content_types import (
    ANY,
    CSV,
    JSON,
    JSON_LINES,
    MAX_QUOTED,
    X_JSON_LINES,
    MediaType,
    choose,
    parse_media_type,
)
from sagemaker_inference_lite.errors import ClientError, UnsupportedMediaTypeError

Body = Union[bytes, bytearray, memoryview, str]
Decoder = Callable[[bytes, MediaType], object]
Encoder = Callable[[object], bytes]


class _Codec(NamedTuple):
    """What is registered for a media type; None for a direction that it does not serve."""

    decode: Decoder | None
    encode: Encoder | None


_codecs: dict[str, _Codec] = {}
_decodable: tuple[str, ...] = ()
_encodable: tuple[str, ...] = ()


def register_codec(content_type: str, *, decode: Decoder | None = None, encode: Encoder | None = None) -> None:
    """Adds a codec for a media type, or replaces the one that is there. Call it before requests are served.

    Args:
        content_type: The type without parameters, such as "application/x-protobuf".
        decode: Called with a body (bytes) and the request's `MediaType`, whose parameters it may heed. It raises a
            ClientError where the body is not what it says; any other exception is a fault of the server's.
        encode: Called with an object, returns the body. It raises NotAcceptableError where the type cannot hold
            that object; any other exception is a fault of the server's.

    Raises:
        ValueError: content_type is not such a type, or neither function is given.
    """
    global _decodable, _encodable
    media_type = parse_media_type(content_type)
    if media_type.parameters or "*" in media_type.essence:
        raise ValueError(f"a codec is registered for type/subtype alone, not for {content_type!r}")
    if decode is None and encode is None:
        raise ValueError(f"a codec for {content_type!r} needs a function to decode or one to encode")
    _codecs[media_type.essence] = _Codec(decode, encode)
    _decodable = tuple(name for name, codec in _codecs.items() if codec.decode)
    _encodable = tuple(name for name, codec in _codecs.items() if codec.encode)


def decodable() -> tuple[str, ...]:
    """The media types that requests may have, in the order in which they were registered."""
    return _decodable


def encodable() -> tuple[str, ...]:
    """The media types that responses may have, the preferred one first."""
    return _encodable


def decode(body: Body, content_type: str) -> object:
    """Decodes a request's body.

    Args:
        body: The body. Text is encoded again, in the charset that content_type names: it is what an input_fn gets.
        content_type: Its media type with parameters, as the Content-Type header has it.

    Returns:
        What the type's codec makes of it; see the table at the head of `codecs`.

    Raises:
        UnsupportedMediaTypeError: No codec decodes that type or its charset; the message lists what is known.
        ClientError: 400. The body is not what content_type says, or content_type is not a media type.
    """
    try:
        media_type = parse_media_type(content_type)
    except ValueError as error:
        raise ClientError(400, f"The Content-Type cannot be read: {error}.") from None
    codec = _codecs.get(media_type.essence)
    if codec is None or codec.decode is None:
        raise UnsupportedMediaTypeError(
            f"The content type {content_type[:MAX_QUOTED]!r} is not supported; expected {' or '.join(_decodable)}."
        )
    if isinstance(body, str):
        body = _encoded(body, _charset(media_type))
    return codec.decode(body if isinstance(body, bytes) else bytes(body), media_type)


def as_text(body: bytes, content_type: str) -> bytes | str:
    """The body as AWS's toolkit passes it to functions: text where it is JSON or CSV, else as it is.

    Raises:
        UnsupportedMediaTypeError: It is CSV in a charset that is not known.
        ClientError: 400. It is not text in its charset.
    """
    try:
        media_type = parse_media_type(content_type)
    except ValueError:
        return body
    if media_type.essence not in (JSON, CSV):
        return body
    return text_of(without_bom(body), _charset(media_type))


def encode(value: object, accept: str | None) -> tuple[bytes, str]:
    """Encodes a response in a type that the client accepts.

    Args:
        value: What to encode; see the table at the head of `codecs`.
        accept: The Accept header, or simply a media type. None, or "", accepts everything.

    Returns:
        The body, and the content type to send with it.

    Raises:
        NotAcceptableError: No acceptable type has a codec, or the one that was chosen cannot hold value.
        TypeError: value holds an object that JSON has no form for.
    """
    content_type = choose(accept or ANY, _encodable)
    encoder = cast(Encoder, _codecs[content_type].encode)
    return encoder(value), content_type


def _encoded(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset)
    # Python reads some bytes of iso-2022-jp that it does not write.
    except UnicodeEncodeError as error:
        raise ClientError(
            400, f"The body is not text in {charset}: {error.reason} at character {error.start}."
        ) from error


def _charset(media_type: MediaType) -> str:
    # JSON is always UTF-8, and a charset says nothing there (RFC 8259, sections 8.1 and 11).
    is_json = media_type.essence in (JSON, JSON_LINES, X_JSON_LINES)
    return "utf-8" if is_json else known_charset(media_type.charset)
