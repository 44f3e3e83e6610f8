# SPDX-License-Identifier: Apache-2.0
"""The frames between the front end and a worker: pure functions from bytes to messages and back.

java/sagemakerinferencelite/Frames.java is the other side. A frame is the number of bytes that follow (64 bits), a byte
that says what it is, and its fields. All integers are big-endian and signed, of 32 bits where nothing else is said;
text is the number of its bytes and as many bytes of UTF-8. Each side sends only after the other has: LOAD, its answer,
and then REQUESTS and their answer, again and again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Union

from sagemaker_inference_lite.errors import WireError

Buffer = Union[bytes, bytearray, memoryview]

LOAD = ord("L")
REQUESTS = ord("R")
LOADED = b"L"
FAILED = b"F"
ANSWERS = b"A"

LENGTH_BYTES = 8

# Where the body of a request of that many bytes and more begins in its frame, behind padding (Invocation.java): who
# reads so far first can have the kernel write the body to where it stays.
LARGE_BODY_BYTES = 1 << 20
LARGE_BODY_AT = 1 << 16

# What REQUESTS may hold besides its bodies: HttpCodec.java admits 8 KiB of headers and a 4 KiB line.
HEADROOM_BYTES = 1 << 20

# The front end holds the head of an answer in memory before it knows what it is.
MAX_HEADER_BYTES = 4096

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_HEAD = struct.Struct(">qc")
_ANSWERS = struct.Struct(">qci")

_read_int = _INT.unpack_from
_int = _INT.pack

# A request of no bytes at all still has its id, its headers' length and its count of parameters.
_LEAST_REQUEST_BYTES = 12


class Load(NamedTuple):
    """LOAD: make this model ready.

    Attributes:
        gpu_id: The GPU that the front end chose for this worker, None without one.
        batch_size: How many requests may come at once, at least 1.
        generation: Of a worker that replaces another in a reload: which of the model's reloads it is; 0 of all others.
        generation_size: How many workers that reload brings.
    """

    model_name: str
    model_path: str
    batch_size: int
    handler: str
    gpu_id: int | None
    generation: int = 0
    generation_size: int = 0


class Parameter(NamedTuple):
    """One input of a request: ``body``, or a query-string parameter under its own name.

    Attributes:
        content_type: The bare media type, without parameters; empty where there is none.
    """

    name: str
    content_type: str
    value: bytes


class Request(NamedTuple):
    """One request.

    Attributes:
        raw_headers: For parse_headers(): most handlers ask for none.
    """

    request_id: str
    raw_headers: bytes
    parameters: list[Parameter]


class Prediction(NamedTuple):
    """The answer to one request. Header names and values must hold neither CR nor LF: they are sent as they are."""

    body: Buffer
    content_type: str = ""
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


Message = Union[Load, list[Request]]


class MisplacedBodyError(WireError):
    """The body that follows the head begins somewhere else than where the head ends."""


def frame_bytes(buffer: Buffer, max_bytes: int) -> int:
    """The size of a frame, its length included, whose first LENGTH_BYTES are there.

    Raises:
        WireError: it is larger than ``max_bytes``, or of no size that a frame can have.
    """
    length: int = _LONG.unpack_from(buffer)[0]
    if not 0 < length <= max_bytes - LENGTH_BYTES:
        raise WireError(f"a message of {length} bytes; the limit is {max_bytes}")
    return length + LENGTH_BYTES


def parse_message(frame: Buffer, tail: bytes = b"") -> Message:
    """Read the one message of a frame: a Load, or the list of its requests.

    Args:
        frame: From the frame's first byte to its last, or to where the tail begins.
        tail: The body of the last request, where it is not in the frame. It is not copied.

    Raises:
        WireError: the bytes are no message.
        MisplacedBodyError: The tail is more or less than the last body.
    """
    # Slices of bytes cost a third of what copies out of a view do.
    data = bytes(frame)
    kind = data[LENGTH_BYTES] if len(data) > LENGTH_BYTES else 0
    try:
        if kind == REQUESTS:
            return _parse_requests(data, tail)
        if kind == LOAD:
            return _parse_load(data)
    except struct.error:
        # Where a tail follows, it may go on with the field.
        raise (MisplacedBodyError if tail else WireError)("the message ends inside a field") from None
    except UnicodeDecodeError as error:
        raise WireError(f"a field of text that is not UTF-8: {error}") from error
    raise WireError(f"expected LOAD or REQUESTS, and got the byte {kind:#04x}")


def _parse_load(frame: bytes) -> Load:
    at = LENGTH_BYTES + 1
    model_name, at = _text(frame, at)
    model_path, at = _text(frame, at)
    batch_size = _read_int(frame, at)[0]
    handler, at = _text(frame, at + 4)
    gpu_id = _read_int(frame, at)[0]
    generation, generation_size = _read_int(frame, at + 4)[0], _read_int(frame, at + 8)[0]
    _check_end(frame, at + 12)
    gpu = gpu_id if gpu_id >= 0 else None
    return Load(model_name, model_path, max(1, batch_size), handler, gpu, generation, generation_size)


def _parse_requests(frame: bytes, tail: bytes) -> list[Request]:
    at = LENGTH_BYTES + 1
    count = _read_int(frame, at)[0]
    size = len(frame) + len(tail)
    if not 0 < count <= size // _LEAST_REQUEST_BYTES:
        raise WireError(f"a message of {count} requests in {size} bytes")
    requests = []
    _, at = _field(frame, at + 4)
    for _ in range(count):
        request_id, at = _text(frame, at)
        headers, at = _field(frame, at)
        parameters = []
        number = _read_int(frame, at)[0]
        at += 4
        for _ in range(number):
            name, at = _text(frame, at)
            content_type, at = _text(frame, at)
            if tail and at + 4 == len(frame) and _read_int(frame, at)[0] == len(tail):
                value, at, tail = tail, at + 4, b""
            else:
                value, at = _field(frame, at)
            parameters.append(Parameter(name, content_type, value))
        requests.append(Request(request_id, headers, parameters))
    if tail:
        raise MisplacedBodyError(f"{len(tail)} bytes follow that are no body")
    _check_end(frame, at)
    return requests


def _field(frame: bytes, at: int) -> tuple[bytes, int]:
    """The field there, and where the next one begins."""
    length = _read_int(frame, at)[0]
    start = at + 4
    end = start + length
    if not start <= end <= len(frame):
        raise MisplacedBodyError(f"a field of {length} bytes, at byte {start} of {len(frame)}")
    return frame[start:end], end


def _text(frame: bytes, at: int) -> tuple[str, int]:
    field, end = _field(frame, at)
    return field.decode(), end


def _check_end(frame: bytes, at: int) -> None:
    if at != len(frame):
        raise WireError(f"{len(frame) - at} bytes follow the last field of a message")


def parse_headers(raw: bytes) -> dict[str, str]:
    """The headers of a request. Names keep the client's case; of a repeated name the last value is kept.

    Raises:
        WireError: the bytes are no headers.
    """
    headers = {}
    at = 0
    try:
        while at < len(raw):
            name, at = _text(raw, at)
            headers[name], at = _text(raw, at)
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(f"headers that cannot be read: {error}") from error
    return headers


def encode_loaded(pid: int) -> bytes:
    """The answer to a LOAD that succeeded, from the worker of that pid."""
    return _HEAD.pack(5, LOADED) + _int(pid)


def encode_failure(status: int, sentence: str, error_id: str, trace: str = "") -> bytes:
    """The answer to a LOAD that failed, for whoever wanted the model.

    Args:
        status: The HTTP status.
        sentence: Why, on one line.
        error_id: Under which the log has the cause.
        trace: The traceback, where callers may see it.
    """
    texts = [text.encode(errors="backslashreplace") for text in (sentence, error_id, trace)]
    fields = b"".join(_int(len(text)) + text for text in texts)
    return b"".join((_HEAD.pack(5 + len(fields), FAILED), _int(status), fields))


def encode_predictions(predictions: Sequence[Prediction]) -> list[Buffer]:
    """The answer to REQUESTS, one prediction for each of them and in their order: pieces to be sent in a row.

    Raises:
        ValueError: the headers of a prediction take more than MAX_HEADER_BYTES.
    """
    pieces: list[Buffer] = [b""]
    for body, content_type, status, headers in predictions:
        media_type = content_type.encode()
        encoded = encode_headers(headers) if headers else b""
        lengths = _int(len(encoded)), encoded, _int(len(body))
        pieces += (b"".join((_int(status), _int(len(media_type)), media_type, *lengths)), body)
    pieces[0] = _ANSWERS.pack(5 + sum(map(len, pieces)), ANSWERS, len(predictions))
    return pieces


def encode_headers(headers: Sequence[tuple[str, str]]) -> bytes:
    """The response headers of a prediction.

    Raises:
        ValueError: they take more than MAX_HEADER_BYTES.
    """
    pieces: list[bytes] = []
    for pair in headers:
        for text in pair:
            field = text.encode()
            pieces += (_int(len(field)), field)
    encoded = b"".join(pieces)
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(f"the response headers take {len(encoded)} bytes; the limit is {MAX_HEADER_BYTES}")
    return encoded
