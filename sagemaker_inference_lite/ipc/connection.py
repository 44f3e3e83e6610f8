# SPDX-License-Identifier: Apache-2.0
"""One connection from the front end, read and answered message by message."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any, Callable, TypeVar

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.ipc import wire

_T = TypeVar("_T")

_NOTHING = bytes(wire.LENGTH_BYTES)

# LOAD is hardly ever longer than this.
_PIECE = 1 << 14

# An answer below this size costs less to copy into one piece than to send as several.
_SMALL_ANSWER = 1 << 17


class Connection:
    """Receives and sends whole messages.

    Args:
        sock: Connected. Blocking, but for receive_available().
        max_bytes: What one message may have at most.
    """

    def __init__(self, sock: socket.socket, max_bytes: int) -> None:
        self.sock = sock
        self._max_bytes = max_bytes
        self._buffer = memoryview(b"")
        self._filled = 0
        self._begun = b""
        self._when_quiet: Callable[[], None] = lambda: None

    def allow(self, max_bytes: int) -> None:
        """Let messages have so many bytes from now on."""
        self._max_bytes = max_bytes

    def receive_into(self, buffer: memoryview) -> None:
        """Have receive() use this memory, of LARGE_BODY_AT bytes, which begins with zeros until a message does."""
        self._buffer = buffer

    def tell_when_quiet(self, seconds: float, then: Callable[[], None]) -> None:
        """Have receive() call something, once, when nothing has come for so long.

        The kernel keeps the time (SO_RCVTIMEO, socket(7)): a message that comes earlier costs no system call more.
        """
        self._when_quiet = then
        whole = int(seconds)
        self._limit_waiting(whole, int(1_000_000 * (seconds - whole)))

    def receive(self, on_first_bytes: Callable[[], None] = lambda: None) -> wire.Message | None:
        """The next message; waits for it. None at the end of the stream.

        Args:
            on_first_bytes: Called when the message has begun to come.

        Raises:
            WireError: what came is no message, or the stream ended inside one.
        """
        if not self._buffer:
            # Holds every small request whole, so that it is read with one call, and the head of every large one. Made
            # here and not before, because the zygote, which has all connections, never comes here.
            self._buffer = memoryview(bytearray(wire.LARGE_BODY_AT))
        self._buffer[: wire.LENGTH_BYTES] = _NOTHING
        self._filled = self._wait_for(self.sock.recv_into, self._buffer)
        if not self._filled:
            return None
        on_first_bytes()
        self._fill(wire.LENGTH_BYTES)
        size = wire.frame_bytes(self._buffer, self._max_bytes)
        if size <= self._filled:
            return self._parse(size)
        if size <= len(self._buffer):
            self._fill(size)
            return self._parse(size)
        return self._receive_long(size)

    def receive_available(self) -> wire.Message | None:
        """The next message if the bytes there complete it, else None. For a small one, on a socket that does not block.

        Raises:
            WireError: as receive(), and at the end of the stream.
            BlockingIOError: no bytes are there.
        """
        piece = self.sock.recv(_PIECE)
        if not piece:
            raise self._ended(len(self._begun))
        self._begun += piece
        if len(self._begun) < wire.LENGTH_BYTES:
            return None
        size = wire.frame_bytes(self._begun, wire.LARGE_BODY_AT)
        if len(self._begun) > size:
            raise self._too_much(len(self._begun) - size)
        if len(self._begun) < size:
            return None
        frame, self._begun = self._begun, b""
        return wire.parse_message(frame)

    def send(self, pieces: Sequence[wire.Buffer]) -> None:
        """Send one message, given in pieces.

        Raises:
            OSError: the front end is gone.
        """
        if sum(map(len, pieces)) < _SMALL_ANSWER:
            self.sock.sendall(b"".join(pieces))
            return
        for piece in pieces:
            self.sock.sendall(piece)

    def _wait_for(self, receive: Callable[..., _T], *arguments: Any) -> _T:
        while True:
            try:
                return receive(*arguments)
            except BlockingIOError:
                self._limit_waiting(0, 0)  # for ever
                self._when_quiet()

    def _limit_waiting(self, seconds: int, microseconds: int) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, microseconds))

    def _read(self) -> None:
        count = self._wait_for(self.sock.recv_into, self._buffer[self._filled :])
        if not count:
            raise self._ended(self._filled)
        self._filled += count

    def _fill(self, size: int) -> None:
        while self._filled < size:
            self._read()

    def _parse(self, size: int) -> wire.Message:
        if size != self._filled:
            raise self._too_much(self._filled - size)
        self._filled = 0
        return wire.parse_message(self._buffer[:size])

    def _receive_long(self, size: int) -> wire.Message:
        self._fill(len(self._buffer))
        rest = size - self._filled
        # Written once, by the kernel, to where it stays.
        tail = self._wait_for(self.sock.recv, rest, socket.MSG_WAITALL)
        while len(tail) < rest:  # a signal came in between, or the time of tell_when_quiet()
            more = self._wait_for(self.sock.recv, rest - len(tail), socket.MSG_WAITALL)
            if not more:
                raise self._ended(self._filled + len(tail))
            tail += more
        self._filled = 0
        try:
            return wire.parse_message(self._buffer, tail)
        except wire.MisplacedBodyError:
            return wire.parse_message(b"".join((self._buffer, tail)))

    @staticmethod
    def _too_much(count: int) -> WireError:
        return WireError(f"{count} bytes follow a message that has not been answered yet")

    @staticmethod
    def _ended(received: int) -> WireError:
        return WireError(f"the stream ended after {received} bytes of a message")
