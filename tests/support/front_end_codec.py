# SPDX-License-Identifier: Apache-2.0
"""The front end's side of the wire, as its sources have it: what it sends, and how it reads what comes back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

from sagemaker_inference_lite.ipc import wire

INT = struct.Struct(">i")
LONG = struct.Struct(">q")

# -- Frames.java, Invocation.java -------------------------------------------------------------------------------------

_LARGE_BODY_AT = 1 << 16
_LARGE_BODY_BYTES = 1 << 20
_REQUESTS_HEAD_BYTES = 8 + 1 + 4 + 4


def field(value: str | bytes) -> bytes:
    """A length and as many bytes."""
    data = value.encode() if isinstance(value, str) else value
    return INT.pack(len(data)) + data


def frame(*pieces: bytes) -> bytes:
    """The length of these bytes, and the bytes."""
    payload = b"".join(pieces)
    return LONG.pack(len(payload)) + payload


def encode_load(load: wire.Load) -> bytes:
    """LOAD, as the front end sends it once on each connection."""
    return frame(
        b"L",
        field(load.model_name),
        field(load.model_path),
        INT.pack(load.batch_size),
        field(load.handler),
        INT.pack(-1 if load.gpu_id is None else load.gpu_id),
        INT.pack(load.generation),
        INT.pack(load.generation_size),
    )


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """The headers of a request, without the number of their bytes: Request.raw_headers."""
    return b"".join(field(text) for pair in headers for text in pair)


def encode_requests(requests: Sequence[wire.Request], padding: int | None = None) -> bytes:
    """REQUESTS, with all requests of a batch.

    Args:
        requests: Where there is one, and its last parameter is large, that is its body.
        padding: How many bytes of padding to send instead of as many as the front end does.
    """
    encoded = b"".join(map(_request, requests))
    if padding is None:
        padding = _padding(requests, len(encoded))
    return frame(b"R", INT.pack(len(requests)), field(bytes(padding)), encoded)


def _padding(requests: Sequence[wire.Request], size: int) -> int:
    """What puts a large body where the worker wants it; none in a batch, nor where so much comes before it anyhow."""
    if len(requests) != 1 or not requests[0].parameters:
        return 0
    body = len(requests[0].parameters[-1].value)
    return max(0, _LARGE_BODY_AT - _REQUESTS_HEAD_BYTES - (size - body)) if body >= _LARGE_BODY_BYTES else 0


def _request(request: wire.Request) -> bytes:
    parameters = [field(part) for parameter in request.parameters for part in parameter]
    return b"".join(
        (field(request.request_id), field(request.raw_headers), INT.pack(len(request.parameters)), *parameters)
    )


# -- WorkerConnection.java, Invocation.java ----------------------------------------------------------------------------

_HEADROOM_BYTES = 1 << 16


class CorruptedError(Exception):
    """The front end throws: it drops the connection and answers 500."""


class Loaded(NamedTuple):
    """The model is loaded."""

    pid: int


class Failed(NamedTuple):
    """The model could not be loaded."""

    status: int
    sentence: str
    error_id: str
    trace: str


class Prediction(NamedTuple):
    """One prediction of an answer."""

    content_type: str
    status: int
    headers: dict[str, str]
    body: bytes


Answer = Union[Loaded, Failed, list[Prediction]]


class _Reader:
    """A ByteBuf, and the ways in which Frames reads from it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def readable(self) -> int:
        return len(self._data) - self.at

    def read(self, length: int) -> bytes:
        if not 0 <= length <= self.readable:
            raise CorruptedError(f"{length} bytes at {self.at} of {len(self._data)}")
        self.at += length
        return self._data[self.at - length : self.at]

    def number(self) -> int:
        value: int = INT.unpack(self.read(4))[0]
        return value

    def field(self) -> bytes:
        return self.read(self.number())

    def text(self) -> str:
        return self.field().decode(errors="replace")

    def prediction(self) -> Prediction:
        status = self.number()
        content_type = self.text()
        end = self.number() + self.at
        headers = {}
        while self.at < end:
            name = self.text()
            headers[name] = self.text()
        return Prediction(content_type, status, headers, self.field())


def decode_answer(data: bytes, max_bodies: int = 1 << 30) -> Answer | None:
    """The answer that the bytes hold, None where more must come.

    Args:
        data: All that has been read of the answer so far.
        max_bodies: max_response_size, for each request of a batch.

    Raises:
        CorruptedError: where the front end throws.
    """
    if len(data) < LONG.size:
        return None
    (length,) = LONG.unpack_from(data)
    if not 1 <= length <= min(max_bodies + _HEADROOM_BYTES, 2**31 - 1 - 64):
        raise CorruptedError(f"an answer of {length} bytes")
    if len(data) < LONG.size + length:
        return None
    reader = _Reader(data[LONG.size :])
    answer = _answer(reader)
    if reader.readable:
        raise CorruptedError(f"{reader.readable} bytes follow an answer")
    return answer


def _answer(reader: _Reader) -> Answer:
    kind = reader.read(1)
    if kind == b"L":
        return Loaded(reader.number())
    if kind == b"F":
        return Failed(reader.number(), reader.text(), reader.text(), reader.text())
    if kind == b"A":
        return [reader.prediction() for _ in range(reader.number())]
    raise CorruptedError(f"an answer of an unexpected kind, {kind!r}")


def decoded(frame: bytes) -> Answer:
    """The answer that a whole frame holds."""
    answer = decode_answer(frame)
    assert answer is not None, "the frame is not whole"
    return answer


def predictions_of(pieces: Sequence[wire.Buffer]) -> list[Prediction]:
    """The predictions of an answer that is given in pieces."""
    answer = decoded(b"".join(pieces))
    assert isinstance(answer, list)
    return answer
