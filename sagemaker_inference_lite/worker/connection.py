# SPDX-License-Identifier: Apache-2.0
"""One connection from the front end, read message by message."""

from __future__ import annotations

import socket
from typing import Callable

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.mms import wire

# Holds every small request whole, so that it is read with one call.
_SMALL = 1 << 16


class Connection:
    """Receives whole messages.

    Args:
        sock: Connected. Blocking, but for receive_available().
        max_bytes: What one message may have at most.
    """

    def __init__(self, sock: socket.socket, max_bytes: int) -> None:
        self.sock = sock
        self._max_bytes = max_bytes
        self._buffer = bytearray(_SMALL)
        self._filled = 0
        self._needed = 1

    def receive(self, on_first_bytes: Callable[[], None] = lambda: None) -> wire.Message | None:
        """The next message; waits for it. None at the end of the stream.

        Args:
            on_first_bytes: Called when the message has begun to come.

        Raises:
            WireError: what came is no message, or the stream ended inside one.
        """
        while self._read():
            if self._filled and self._needed == 1:
                on_first_bytes()
            message = self._parse()
            if message is not None:
                return message
        if self._filled:
            raise WireError(f"the stream ended after {self._filled} bytes of a message")
        return None

    def receive_available(self) -> wire.Message | None:
        """The next message if the bytes there complete it, else None. For a socket that does not block.

        Raises:
            WireError: as receive(), and at the end of the stream.
            BlockingIOError: no bytes are there.
        """
        if not self._read():
            raise WireError(f"the stream ended after {self._filled} bytes of a message")
        return self._parse()

    def _read(self) -> int:
        if self._needed > len(self._buffer):
            grown = bytearray(self._needed)
            grown[: self._filled] = self._buffer[: self._filled]
            self._buffer = grown
        with memoryview(self._buffer) as view, view[self._filled :] as free:
            count = self.sock.recv_into(free)
        self._filled += count
        return count

    def _parse(self) -> wire.Message | None:
        if self._filled < self._needed:
            return None
        try:
            with memoryview(self._buffer) as view:
                message = wire.parse_message(view, self._filled, self._max_bytes)
        except wire.Incomplete as incomplete:
            self._needed = incomplete.needed
            return None
        self._filled = 0
        self._needed = 1
        if len(self._buffer) > _SMALL:
            self._buffer = bytearray(_SMALL)
        return message
