# SPDX-License-Identifier: Apache-2.0
"""Passing on what other processes print: each line whole, with its source's name before it."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from contextlib import suppress

_READ_BYTES = 1 << 16

# A line that never ends is passed on in pieces of this size, rather than gathered for ever.
_LONGEST_LINE_BYTES = 1 << 20


class LinePrefixer:
    """Puts a prefix before each line of a byte stream. Pure: bytes in, bytes out.

    Args:
        prefix: What stands before each line; control characters in it are shown as escapes.
    """

    def __init__(self, prefix: str) -> None:
        # A name that a client chose must not be able to begin a line of its own.
        self._prefix = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in prefix).encode()
        self._partial = b""

    def feed(self, data: bytes) -> bytes:
        """The whole lines that have come, prefixed; what follows the last line end is kept for later."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LONGEST_LINE_BYTES:
            lines.append(self._partial)
            self._partial = b""
        return b"".join(self._prefix + line + b"\n" for line in lines)

    def finish(self) -> bytes:
        """What was kept, as a last line."""
        rest, self._partial = self._partial, b""
        return self._prefix + rest + b"\n" if rest else b""


class OutputRelay:
    """A thread that copies pipes to file descriptors, line by line.

    A thread of its own, because writing waits for whoever reads the container's output, and nothing else here
    may wait for that.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_sender.setblocking(False)
        self._added: dict[int, tuple[LinePrefixer, int]] = {}
        self._closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="output-relay", daemon=True)
        self._selector.register(self._wakeup_receiver, selectors.EVENT_READ)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def add(self, source: int, prefix: str, destination: int) -> None:
        """Copy this pipe, which becomes the relay's to close, to that descriptor until it ends."""
        os.set_blocking(source, False)
        with self._lock:
            self._added[source] = (LinePrefixer(prefix), destination)
        self._wake()

    def close(self, timeout_seconds: float) -> None:
        """Copy what the pipes hold at this moment, then end. Waits so long at the most."""
        self._closing = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        if not self._thread.is_alive():
            self._selector.close()
            self._wakeup_receiver.close()
            self._wakeup_sender.close()

    def _wake(self) -> None:
        with suppress(OSError):  # it has been woken often enough, or is closed
            self._wakeup_sender.send(b".")

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                if key.fileobj is self._wakeup_receiver:
                    self._wakeup_receiver.recv(4096)
                    self._take_added()
                else:
                    self._copy(key.fd, *key.data)
        self._take_added()
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._wakeup_receiver:
                self._drain(key.fd, *key.data)

    def _take_added(self) -> None:
        with self._lock:
            added, self._added = self._added, {}
        for source, data in added.items():
            self._selector.register(source, selectors.EVENT_READ, data)

    def _copy(self, source: int, prefixer: LinePrefixer, destination: int) -> bool:
        """Copy a piece; False where the pipe has no more for now, or has ended."""
        try:
            data = os.read(source, _READ_BYTES)
        except BlockingIOError:
            return False
        _write_all(destination, prefixer.feed(data) if data else prefixer.finish())
        if not data:
            self._selector.unregister(source)
            os.close(source)
        return bool(data)

    def _drain(self, source: int, prefixer: LinePrefixer, destination: int) -> None:
        # A process that outlived the server may hold the pipe open and print without end: a megabyte at the most.
        for _ in range(16):
            if not self._copy(source, prefixer, destination):
                break
        else:
            os.close(source)
            return
        with suppress(KeyError):
            self._selector.unregister(source)
            _write_all(destination, prefixer.finish())
            os.close(source)


def _write_all(destination: int, data: bytes) -> None:
    with suppress(OSError):  # nobody reads any more: the processes that print must not be held up for that
        while data:
            data = data[os.write(destination, data) :]
