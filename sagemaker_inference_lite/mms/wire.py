# SPDX-License-Identifier: Apache-2.0
"""The frames between MMS's front end and a worker: pure functions from bytes to messages and back.

The front end sends LOAD once per connection and then PREDICT after PREDICT, each only after the answer to
the one before (ModelRequestEncoder.java). The worker answers with one frame (ModelResponseDecoder.java).
All integers are big-endian signed 32-bit; a string is its length in bytes and then UTF-8; -1 ends a list.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, Union

from sagemaker_inference_lite.errors import WireError

Buffer = Union[bytes, bytearray, memoryview]

LOAD = ord("L")
PREDICT = ord("I")

_INT = struct.Struct(">i")
_END = _INT.pack(-1)
_OK = _INT.pack(200)

# What a PREDICT may hold besides its body: Netty's HttpServerCodec admits 8 KiB of headers and a 4 KiB line.
HEADROOM_BYTES = 1 << 20

# See encode_predictions(): reply headers must lie in a stretch that Netty reads in one piece.
MAX_HEADER_BYTES = 4096
_LEAD_BYTES = 10_496


class Load(NamedTuple):
    """LOAD: make this model ready.

    Attributes:
        gpu_id: The GPU that the front end chose for this worker, None without one.
        batch_size: How many requests one PREDICT may hold, at least 1.
        io_name: Names the two files, ``<io_name>-stdout`` and ``-stderr`` in its temporary directory, that the
            front end opens once it has the answer, to read the worker's output. Where they are no FIFOs it
            makes them, reads nothing and goes on (WorkerThread.java:166-174).
    """

    model_name: str
    model_path: str
    batch_size: int
    handler: str
    gpu_id: int | None
    io_name: str


class Parameter(NamedTuple):
    """One input of a request: ``body``, or a query-string parameter or form field under its own name.

    Attributes:
        content_type: The bare media type, without parameters; empty where there is none.
    """

    name: str
    content_type: str
    value: bytes


class Request(NamedTuple):
    """One request of a PREDICT. Header names keep the client's case; of a repeated name the last value is kept."""

    request_id: str
    headers: dict[str, str]
    parameters: list[Parameter]


class Prediction(NamedTuple):
    """The answer to one request. Header names and values must hold neither CR nor LF: they are sent as they are."""

    request_id: str
    body: Buffer
    content_type: str = ""
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


Message = Union[Load, list[Request]]


class Incomplete(Exception):
    """More bytes must come before the message can be read.

    Attributes:
        needed: Total bytes of the message that must be there before it is worth trying again.
    """

    def __init__(self, needed: int) -> None:
        self.needed = needed
        super().__init__(needed)


def parse_message(buffer: Buffer, filled: int, max_bytes: int) -> Message:
    """Read the one message that ``buffer[:filled]`` holds: a Load, or the list of requests of a PREDICT.

    Args:
        buffer: The bytes that have come so far, from the message's first.
        filled: How many bytes of the buffer count.
        max_bytes: What one message may have at most, all its fields together.

    Raises:
        Incomplete: the message goes on after ``filled``.
        WireError: the bytes are no message, or one that is larger than ``max_bytes``, or hold more than one.
    """
    if filled > max_bytes:
        raise WireError(f"a message of at least {filled} bytes; the limit is {max_bytes}")
    cursor = _Cursor(buffer, filled, max_bytes)
    command = cursor.byte()
    if command == PREDICT:
        message: Message = _parse_predict(cursor)
    elif command == LOAD:
        message = _parse_load(cursor)
    else:
        raise WireError(f"expected a command, 'L' or 'I', and got the byte {command:#04x}")
    if cursor.at != filled:
        raise WireError(f"{filled - cursor.at} bytes follow a message that has not been answered yet")
    return message


def _parse_load(cursor: _Cursor) -> Load:
    model_name = cursor.string()
    model_path = cursor.string()
    batch_size = cursor.number()
    handler = cursor.string()
    gpu_id = cursor.number()
    return Load(model_name, model_path, max(1, batch_size), handler, gpu_id if gpu_id >= 0 else None, cursor.string())


def _parse_predict(cursor: _Cursor) -> list[Request]:
    requests: list[Request] = []
    while True:
        length = cursor.number()
        if length == -1:
            return requests
        request_id = cursor.text(length)
        requests.append(Request(request_id, _parse_headers(cursor), _parse_parameters(cursor)))


def _parse_headers(cursor: _Cursor) -> dict[str, str]:
    headers: dict[str, str] = {}
    while True:
        length = cursor.number()
        if length == -1:
            return headers
        name = cursor.text(length)
        headers[name] = cursor.string()


def _parse_parameters(cursor: _Cursor) -> list[Parameter]:
    parameters: list[Parameter] = []
    while True:
        length = cursor.number()
        if length == -1:
            return parameters
        name = cursor.text(length)
        content_type = cursor.string()
        parameters.append(Parameter(name, content_type, cursor.field(cursor.number())))


class _Cursor:
    """Reads fields one after the other and says how many bytes it misses."""

    __slots__ = ("_buffer", "_filled", "_max", "at")

    def __init__(self, buffer: Buffer, filled: int, max_bytes: int) -> None:
        self._buffer = buffer
        self._filled = filled
        self._max = max_bytes
        self.at = 0

    def _advance(self, size: int) -> int:
        start = self.at
        end = start + size
        if end > self._filled:
            if end > self._max:
                raise WireError(f"a message of at least {end} bytes; the limit is {self._max}")
            raise Incomplete(end)
        self.at = end
        return start

    def byte(self) -> int:
        return self._buffer[self._advance(1)]

    def number(self) -> int:
        value: int = _INT.unpack_from(self._buffer, self._advance(4))[0]
        return value

    def field(self, length: int) -> bytes:
        if length < 0:
            raise WireError(f"a field of {length} bytes, at byte {self.at}")
        start = self._advance(length)
        return bytes(self._buffer[start : self.at])

    def text(self, length: int) -> str:
        try:
            return str(self.field(length), "utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"a field of text that is not UTF-8, before byte {self.at}: {error}") from error

    def string(self) -> str:
        return self.text(self.number())


def encode_loaded(pid: int) -> bytes:
    """The answer to a LOAD that succeeded; the front end takes the number after ``[PID]:`` as the worker's."""
    message = b"[PID]:%d" % pid
    return b"".join((_OK, _INT.pack(len(message)), message, _END))


def encode_failure(code: int, message: str) -> bytes:
    """An answer without predictions: the HTTP status and text for the one request, or the LOAD, that waits.

    Args:
        code: An HTTP status other than 200. It must not be used for a batch of several requests: the front end
            then answers the first with it and drops the connection (BatchAggregator.java).
        message: Goes to the caller as it is.
    """
    text = message.encode()
    return b"".join((_INT.pack(code), _INT.pack(len(text)), text, _END))


def encode_predictions(predictions: Sequence[Prediction]) -> bytes:
    """The answer to a PREDICT: one prediction for each of its requests.

    The front end's decoder checks that strings have come whole, but not so the status and the headers
    (ModelResponseDecoder.java:68, CodecUtils.readMap): a read that ends inside or just before them costs the
    connection. Its reads end where Netty's adaptive buffer does: at a multiple of 16 bytes up to 512, then at a
    power of two, four sizes up after each read that filled it. So each status is put where no multiple of 16 is,
    by spaces at the end of the last string before it that may be padded: the message, which the front end ignores,
    or the reason phrase of the prediction before. And headers are put where no such read ends, whatever size the
    buffer began with: between 10,496 and 16,384 bytes. A batch has room there for the headers of its first
    prediction, and of others only as far as they fit in.

    Raises:
        ValueError: the headers of a prediction take more than MAX_HEADER_BYTES.
    """
    text = b" " * _LEAD_BYTES if any(prediction.headers for prediction in predictions) else b""
    pieces: list[Buffer] = [_OK]
    at = 4
    before: tuple[Buffer, ...] = ()
    for prediction in predictions:
        head = _head(prediction)
        at += 4 + len(text) + sum(map(len, before)) + len(head)
        text += b" " * _padding(at)
        at += _padding(at) + 4
        pieces += (_INT.pack(len(text)), text, *before, head, _INT.pack(prediction.status))
        text = _reason(prediction.status)
        before = (encode_headers(prediction.headers), _INT.pack(len(prediction.body)), prediction.body)
    pieces += (_INT.pack(len(text)), text, *before, _END)
    return b"".join(pieces)


def _head(prediction: Prediction) -> bytes:
    request_id = prediction.request_id.encode()
    content_type = prediction.content_type.encode()
    return b"".join((_INT.pack(len(request_id)), request_id, _INT.pack(len(content_type)), content_type))


def _padding(at: int) -> int:
    """How far behind this place four bytes may stand that no read may end in, or just before."""
    aligned = -at % 4
    return aligned if (at + aligned) % 16 else aligned + 4


def encode_headers(headers: Sequence[tuple[str, str]]) -> bytes:
    """The response headers of a prediction.

    Raises:
        ValueError: they take more than MAX_HEADER_BYTES.
    """
    if not headers:
        return b"\0\0\0\0"
    pieces = [_INT.pack(len(headers))]
    for pair in headers:
        for text in pair:
            field = text.encode()
            pieces += (_INT.pack(len(field)), field)
    encoded = b"".join(pieces)
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(f"the response headers take {len(encoded)} bytes; the limit is {MAX_HEADER_BYTES}")
    return encoded


_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def _reason(status: int) -> bytes:
    # An empty phrase would go out as "HTTP/1.1 299 " with nothing behind it; some clients refuse that.
    return _REASONS.get(status, b"Unknown")
