# SPDX-License-Identifier: Apache-2.0
"""Writing lines for somebody who may not read them: what does not fit into a buffer is dropped and counted."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections import deque

from sagemaker_inference_lite.runtime import logs

# What waits for a reader at the most. Many times the longest line (output.py), so that one always fits.
BACKLOG_BYTES = 8 << 20

# As much as a pipe takes at once.
_PIECE_BYTES = 1 << 16

# How soon a descriptor that cannot be written to is tried again: a disk may have room again, a FIFO a reader.
_RETRY_SECONDS = 1.0
_PAUSE_SECONDS = 0.01

_UNREAD = "nobody read them"


class _Dropped:
    """Lines that are missing at this place of the output, and why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._lines = 0
        self._bytes = 0

    def add(self, data: bytes) -> None:
        self._lines += data.count(b"\n")
        self._bytes += len(data)

    def add_all(self, other: _Dropped) -> None:
        self._lines += other._lines
        self._bytes += other._bytes

    def line(self) -> bytes:
        message = f"{self._lines} lines ({self._bytes} bytes) of output were dropped: {self._reason}"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, message, None, None)
        return f"{logs.Formatter().format(record)}\n".encode()


class LineWriter:
    """A thread that writes lines to a descriptor, and that alone waits for whoever reads there.

    Once a line has been dropped, all that follow are until those before it have been written. One line then says how
    many they were, so that a reader who wakes up finds whole stretches of output rather than every other line.

    Args:
        descriptor: Where to write. It stays the caller's, who closes it once end() has returned true.
        limit_bytes: What waits at the most.
    """

    def __init__(self, descriptor: int, limit_bytes: int = BACKLOG_BYTES) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._waiting: deque[bytes | _Dropped] = deque()
        self._waiting_bytes = 0
        self._is_writing = False
        self._is_failing = False
        self._is_ending = False
        self._is_cut = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"output-{descriptor}", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, lines: bytes) -> None:
        """Have whole lines written. Never waits."""
        with self._changed:
            room = 0 if self._is_dropping() else self._limit_bytes - self._waiting_bytes
            fits = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
            if fits:
                self._waiting.append(lines[:fits])
                self._waiting_bytes += fits
            if fits < len(lines):
                self._drop(lines[fits:])
            self._changed.notify_all()

    def settle(self, deadline: float) -> bool:
        """Wait until all has been written and there is room for a few lines more; whether it is so by the deadline.

        Where nothing can be written at all, as to a full disk, there is nothing to wait for.

        Args:
            deadline: As time.monotonic() has it.
        """
        with self._changed:
            settled = self._changed.wait_for(self._is_idle, max(0.0, deadline - time.monotonic()))
        return settled and _is_writable(self._descriptor, max(0.0, deadline - time.monotonic()))

    def end(self, deadline: float) -> bool:
        """End the thread once all has been written; whether it has ended by then."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _is_idle(self) -> bool:
        return self._is_failing or not (self._waiting or self._is_writing)

    def _is_dropping(self) -> bool:
        return bool(self._waiting) and isinstance(self._waiting[-1], _Dropped)

    def _drop(self, lines: bytes) -> None:
        if not self._is_dropping():
            self._waiting.append(_Dropped(_UNREAD))
        last = self._waiting[-1]
        assert isinstance(last, _Dropped)
        last.add(lines)

    # -- the thread --

    def _run(self) -> None:
        # Whoever calls may have given SIGPIPE back to the kernel, which would end the process for one lost reader.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_ending)
                if not self._waiting or (self._is_ending and self._is_failing):
                    return
                piece = self._take()
                self._is_writing = True
            try:
                self._settle_with(piece, *self._write(piece))
            except Exception:
                # Memory most likely: without this thread nothing that is printed would be seen any more.
                with self._changed:
                    self._is_writing = False
                time.sleep(_PAUSE_SECONDS)

    def _take(self) -> bytes | _Dropped:
        """The next lines, as many as may be written at once; or what was dropped before them."""
        first = self._waiting.popleft()
        if isinstance(first, _Dropped):
            return first
        pieces, size = [first], len(first)
        while self._waiting and not isinstance(self._waiting[0], _Dropped):
            following = self._waiting[0]
            if size + len(following) > _PIECE_BYTES:
                break
            pieces.append(following)
            size += len(following)
            self._waiting.popleft()
        return b"".join(pieces)

    def _write(self, piece: bytes | _Dropped) -> tuple[bytes, str]:
        """Write it; what is left of it, and why."""
        data = piece if isinstance(piece, bytes) else piece.line()
        size = len(data)
        # After a failure in the middle of a line this one is to begin on a line of its own.
        data = b"\n" + data if self._is_cut else data
        while data:
            try:
                written = os.write(self._descriptor, data)
            except BlockingIOError:
                _is_writable(self._descriptor)
            except OSError as error:
                return data[-size:], error.strerror or str(error)
            else:
                self._is_cut = data[written - 1 : written] != b"\n"
                data = data[written:]
        return b"", ""

    def _settle_with(self, piece: bytes | _Dropped, left: bytes, reason: str) -> None:
        """Note what came of a piece; where it could not be written, pause, and have it counted."""
        with self._changed:
            self._is_writing = False
            self._is_failing = bool(left)
            if isinstance(piece, bytes):
                self._waiting_bytes -= len(piece)
            if left:
                self._lose(piece, left, reason)
            self._changed.notify_all()
            if left:
                self._changed.wait_for(lambda: self._is_ending, _RETRY_SECONDS)

    def _lose(self, piece: bytes | _Dropped, left: bytes, reason: str) -> None:
        """Count all that waits as dropped, the piece first."""
        dropped = _Dropped(reason)
        for each in (left if isinstance(piece, bytes) else piece, *self._waiting):
            if isinstance(each, _Dropped):
                dropped.add_all(each)
            else:
                dropped.add(each)
        self._waiting.clear()
        self._waiting.append(dropped)
        self._waiting_bytes = 0


def _is_writable(descriptor: int, seconds: float | None = None) -> bool:
    """Whether there is room, or nobody to wait for, within so many seconds; without a number it waits for ever.

    A pipe has room where a page is free, which is 4 KiB at the least.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))
