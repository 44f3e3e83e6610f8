# SPDX-License-Identifier: Apache-2.0
"""Which process the kernel is to end where the container's memory runs out.

It adds to what each one has what is in /proc/self/oom_score_adj, in thousandths of the limit
(proc_pid_oom_score_adj(5)). A worker is replaced when it ends, so it is to go before Java and the zygote, whose end is
the container's. Of workers one that loads is to go first, for nobody waits for its answers yet; then those that answer,
for one of them is likely what asks for memory; last those that wait. Raising one's own score, and lowering it again,
takes no privilege.
"""

from __future__ import annotations

import os
from contextlib import suppress

_FILE = "/proc/self/oom_score_adj"
_HIGHEST = 1000


class OomScore:
    """The score of the process that makes it: a worker that has just been forked, and loads."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._waits = 0
        with suppress(OSError, ValueError):  # no Linux, or a sandbox that has no such file
            self._descriptor = os.open(_FILE, os.O_RDWR | os.O_CLOEXEC)
            inherited = int(os.read(self._descriptor, 20))
            self._waits = (inherited + _HIGHEST) // 2
        self._is_answering = False
        self._write(_HIGHEST)

    def answers(self) -> bool:
        """This process answers requests; whether that is new."""
        if self._is_answering:
            return False
        self._is_answering = True
        self._write((self._waits + _HIGHEST) // 2)
        return True

    def waits(self) -> None:
        """This process has nothing to do."""
        self._is_answering = False
        self._write(self._waits)

    def close(self) -> None:
        """Leave the score as it is, for good."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, score: int) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.pwrite(self._descriptor, b"%d" % score, 0)
