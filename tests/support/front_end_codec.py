# SPDX-License-Identifier: Apache-2.0
"""The front end's side of the wire, as its sources have it: what it sends, how it reads, and where its reads end."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sagemaker_inference_lite.mms import wire

INT = struct.Struct(">i")
END = INT.pack(-1)

# -- ModelRequestEncoder.java -----------------------------------------------------------------------------------------


def field(value: str | bytes) -> bytes:
    """A length and as many bytes."""
    data = value.encode() if isinstance(value, str) else value
    return INT.pack(len(data)) + data


def encode_load(load: wire.Load) -> bytes:
    """LOAD, as the front end sends it once on each connection."""
    return b"".join(
        (
            b"L",
            field(load.model_name),
            field(load.model_path),
            INT.pack(load.batch_size),
            field(load.handler),
            INT.pack(-1 if load.gpu_id is None else load.gpu_id),
            field(load.io_name),
        )
    )


def encode_predict(requests: Sequence[wire.Request]) -> bytes:
    """PREDICT, with all requests of a batch."""
    return b"".join((b"I", *map(_request, requests), END))


def _request(request: wire.Request) -> bytes:
    headers = (field(text) for pair in request.headers.items() for text in pair)
    parameters = (field(part) for parameter in request.parameters for part in parameter)
    return b"".join((field(request.request_id), *headers, END, *parameters, END))


# -- ModelResponseDecoder.java, CodecUtils.java -----------------------------------------------------------------------


class CorruptedError(Exception):
    """The decoder throws: the front end drops the connection and answers 500."""


class Prediction(NamedTuple):
    """One prediction of an answer."""

    request_id: str
    content_type: str
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class Response(NamedTuple):
    """An answer."""

    code: int
    message: str
    predictions: list[Prediction]


class _UnderrunError(Exception):
    """More bytes must come."""


class _Reader:
    """A ByteBuf, and the ways in which the decoder reads from it."""

    def __init__(self, data: bytes | memoryview, limit: int) -> None:
        self._data = memoryview(data)
        self._limit = limit
        self._at = 0

    @property
    def readable(self) -> int:
        return len(self._data) - self._at

    def unchecked_int(self) -> int:
        """ByteBuf.readInt(): throws where four bytes are not there."""
        if self.readable < 4:
            raise CorruptedError(f"IndexOutOfBoundsException at {self._at}")
        self._at += 4
        value: int = INT.unpack_from(self._data, self._at - 4)[0]
        return value

    def length(self, limit: int | None = None) -> int:
        """CodecUtils.readLength(), where a missing byte is told by an exception instead of -3."""
        if self.readable < 4:
            raise _UnderrunError
        found = self.unchecked_int()
        if found > (self._limit if limit is None else limit):
            raise CorruptedError(f"Message size exceed limit: {found}")
        if found > self.readable:
            raise _UnderrunError
        return found

    def read(self, length: int) -> bytes:
        """CodecUtils.read()."""
        if length < 0:
            raise CorruptedError(f"Invalid message size: {length}")
        self._at += length
        return bytes(self._data[self._at - length : self._at])

    def string(self, limit: int | None = None) -> str:
        return self.read(self.length(limit)).decode(errors="replace")

    def map(self) -> dict[str, str]:
        """CodecUtils.readMap(), which takes the -3 of a missing byte for a length, and throws."""
        count = self.length()
        try:
            return {self.string(self.readable): self.string(self.readable) for _ in range(count)}
        except _UnderrunError:
            raise CorruptedError("Invalid message size: -3") from None

    def prediction(self, id_length: int) -> Prediction:
        return Prediction(
            self.read(id_length).decode(),
            self.string(),
            self.unchecked_int(),
            self.string(),
            self.map(),
            self.read(self.length()),
        )


def decode_response(data: bytes | memoryview, limit: int = 1 << 30) -> Response | None:
    """The answer that the bytes hold, None where more must come.

    Args:
        data: All that has been read of the answer so far.
        limit: max_response_size.

    Raises:
        CorruptedError: where the front end's decoder throws.
    """
    if len(data) < 9:
        return None
    reader = _Reader(data, limit)
    try:
        code = reader.unchecked_int()
        message = reader.string()
        predictions: list[Prediction] = []
        while True:
            length = reader.length()
            if length == -1:
                break
            predictions.append(reader.prediction(length))
    except _UnderrunError:
        return None
    if reader.readable:
        raise CorruptedError(f"{reader.readable} bytes that nobody asked for")
    return Response(code, message, predictions)


def decoded(frame: bytes, limit: int = 1 << 30) -> Response:
    """The answer that a whole frame holds."""
    response = decode_response(frame, limit)
    assert response is not None, "the frame is not whole"
    return response


# -- io.netty.channel.AdaptiveRecvByteBufAllocator --------------------------------------------------------------------

_SIZES = [*range(16, 512, 16), *(512 << power for power in range(8))]
_MINIMUM = _SIZES.index(64)
_MAXIMUM = _SIZES.index(65536)
_INDEX_INCREMENT = 4


def read_ends(size: int) -> list[int]:
    """After how many bytes of a frame of that size a read may end, from whatever size the read buffer begins with."""
    return sorted({end for first in range(_MINIMUM, _MAXIMUM + 1) for end in _read_ends_from(first, size)})


def _read_ends_from(index: int, size: int) -> Iterator[int]:
    steps = (_SIZES[min(index + _INDEX_INCREMENT * count, _MAXIMUM)] for count in itertools.count())
    for end in itertools.accumulate(steps):
        yield min(end, size)
        if end >= size:
            return
