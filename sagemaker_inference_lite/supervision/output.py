# SPDX-License-Identifier: Apache-2.0
"""Passing on what other processes print: each line whole, with its source's name before it."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from contextlib import suppress

from sagemaker_inference_lite.supervision.line_writer import LineWriter

_READ_BYTES = 1 << 16

# A line that never ends is passed on in pieces of this size, rather than gathered for ever.
_LONGEST_LINE_BYTES = 1 << 20

# How long the thread stops for where it cannot even read, for want of memory: it must not take a processor for that.
_PAUSE_SECONDS = 0.01


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
        whole, end, self._partial = (self._partial + data).rpartition(b"\n")
        lines = self._prefixed(whole) if end else b""
        if len(self._partial) > _LONGEST_LINE_BYTES:
            lines += self.finish()
        return lines

    def finish(self) -> bytes:
        """What was kept, as a last line."""
        rest, self._partial = self._partial, b""
        return self._prefixed(rest) if rest else b""

    def _prefixed(self, lines: bytes) -> bytes:
        if self._prefix:
            lines = self._prefix + lines.replace(b"\n", b"\n" + self._prefix)
        return lines + b"\n"


class OutputRelay:
    """A thread that empties pipes, so that nobody who prints waits, and hands their lines to writers, who may."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_sender.setblocking(False)
        self._added: dict[int, tuple[LinePrefixer, LineWriter]] = {}
        self._is_closing = False
        self._lock = threading.Lock()
        self._empty = threading.Event()
        self._wants_empty = False
        self._thread = threading.Thread(target=self._run, name="output-relay", daemon=True)
        self._selector.register(self._wakeup_receiver, selectors.EVENT_READ)

    def start(self) -> None:
        """Begin to pass lines on."""
        self._thread.start()

    def add(self, source: int, prefix: str, writer: LineWriter) -> None:
        """Pass the lines of this pipe, which becomes the relay's to close, on to the writer until it ends."""
        os.set_blocking(source, False)
        with self._lock:
            self._added[source] = (LinePrefixer(prefix), writer)
        self._wake()

    def settle(self, deadline: float) -> bool:
        """Wait until what the pipes hold at this moment has been handed on; whether it has been by the deadline.

        A megabyte of each pipe at the most, and not what follows its last line end: it may go on.
        """
        self._empty.clear()
        self._wants_empty = True
        self._wake()
        return self._empty.wait(max(0.0, deadline - time.monotonic()))

    def close(self, deadline: float) -> bool:
        """Do as settle(), count what follows the last line end as a line, and close the pipes; whether that is done."""
        self._is_closing = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return False
        self._selector.close()
        self._wakeup_receiver.close()
        self._wakeup_sender.close()
        return True

    def _wake(self) -> None:
        with suppress(OSError):  # it has been woken often enough, or is closed
            self._wakeup_sender.send(b".")

    # -- the thread --

    def _run(self) -> None:
        while not self._is_closing:
            try:
                self._turn()
            except Exception:
                # Whatever it is, memory most likely: without this thread everybody who prints would come to a stop.
                time.sleep(_PAUSE_SECONDS)
        self._take_added()
        for source in self._sources():
            self._drain(source)
            self._close(source)

    def _turn(self) -> None:
        for key, _ in self._selector.select():
            if key.fileobj is self._wakeup_receiver:
                self._wakeup_receiver.recv(4096)
                self._take_added()
            else:
                self._copy(key.fd)
        if self._wants_empty:
            self._wants_empty = False
            self._take_added()
            for source in self._sources():
                self._drain(source)
            self._empty.set()

    def _sources(self) -> list[int]:
        keys = self._selector.get_map().values()
        return [key.fd for key in keys if key.fileobj is not self._wakeup_receiver]

    def _take_added(self) -> None:
        with self._lock:
            added, self._added = self._added, {}
        for source, data in added.items():
            self._selector.register(source, selectors.EVENT_READ, data)

    def _drain(self, source: int) -> None:
        # A process that outlived the server may hold the pipe open and print without end: a megabyte at the most.
        for _ in range(16):
            if not self._copy(source):
                break

    def _copy(self, source: int) -> bool:
        """Copy a piece; False where the pipe has no more for now, or has ended."""
        try:
            data = os.read(source, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close(source)
            return False
        prefixer, writer = self._selector.get_key(source).data
        writer.put(prefixer.feed(data))
        return True

    def _close(self, source: int) -> None:
        """Close a source, unless it has ended and been closed."""
        with suppress(KeyError):
            prefixer, writer = self._selector.unregister(source).data
            os.close(source)
            writer.put(prefixer.finish())
