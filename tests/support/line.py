# SPDX-License-Identifier: Apache-2.0
"""A line to the programs that misbehave."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[1] / "programs" / "misbehaves.py"
SECONDS = 10


class Line:
    """A pipe that a program, and all that it starts, hold the other end of."""

    def __init__(self) -> None:
        self._source, self.descriptor = os.pipe()
        self._held = True

    def argv(self, verb: str, argument: object = "") -> list[str]:
        """A command line of tests/programs/misbehaves.py."""
        return [sys.executable, str(PROGRAM), str(self.descriptor), verb, str(argument)]

    def read(self) -> bytes:
        """What was said next; nothing once all who hold the line have ended."""
        self._release()
        readable, _, _ = select.select([self._source], [], [], SECONDS)
        assert readable, "somebody holds the line and says nothing"
        return os.read(self._source, 65536)

    def rest(self) -> bytes:
        """All that is said until the last of those who hold the line has ended."""
        return b"".join(iter(self.read, b""))

    def close(self) -> None:
        """Hang up."""
        self._release()
        os.close(self._source)

    def _release(self) -> None:
        if self._held:
            os.close(self.descriptor)
        self._held = False
