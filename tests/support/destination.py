# SPDX-License-Identifier: Apache-2.0
"""Where a test has lines written to."""

from __future__ import annotations

import os
import select
import time

SECONDS = 10


def deadline(seconds: float = SECONDS) -> float:
    """So many seconds from now."""
    return time.monotonic() + seconds


class Destination:
    """A pipe, and what has come out of it."""

    def __init__(self) -> None:
        self.source, self.descriptor = os.pipe()
        self.text = b""

    def read_until(self, end: bytes) -> bytes:
        """All that has come, once it ends so."""
        while not self.text.endswith(end):
            self._read()
        return self.text

    def read_until_there_are(self, count: int, piece: bytes, at_once: int = 65536) -> None:
        """Read until so many of these have come, so many bytes at once."""
        missing = count - self.text.count(piece)
        while missing > 0:
            missing -= self._read(at_once).count(piece)

    def _read(self, at_once: int = 65536) -> bytes:
        readable, _, _ = select.select([self.source], [], [], SECONDS)
        assert readable, self.text[-200:]
        read = os.read(self.source, at_once)
        self.text += read
        return read

    def close(self) -> None:
        """Hang up on both sides."""
        os.close(self.descriptor)
        self.hang_up()

    def hang_up(self) -> None:
        """Read no more."""
        if self.source >= 0:
            os.close(self.source)
        self.source = -1
