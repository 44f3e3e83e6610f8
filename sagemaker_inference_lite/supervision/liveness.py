# SPDX-License-Identifier: Apache-2.0
"""Noticing that a process which says again and again that it is at work has fallen silent."""

from __future__ import annotations

import time
from enum import Enum

# What one look adds to the silence at most: where the whole container was frozen, as docker pause does it, the
# process had no time to say anything either.
_LONGEST_STEP_SECONDS = 2.0


class Silence(Enum):
    """What a look at a process has found that has been silent for so long."""

    NONE = "it speaks"
    SUSPECT = "it may have been stopped"  # found once in each silence
    DEAD = "it will not speak again"


class Liveness:
    """Listens to one process, from its first word on.

    Args:
        suspect_seconds: How long a silence is suspect.
        dead_seconds: How long it is final.
    """

    def __init__(self, suspect_seconds: float, dead_seconds: float) -> None:
        self._suspect_seconds = suspect_seconds
        self._dead_seconds = dead_seconds
        self._looked_at: float | None = None
        self._silent_seconds = 0.0
        self._is_suspected = False

    def heard(self) -> None:
        """It has said something."""
        self._looked_at = time.monotonic()
        self._silent_seconds = 0.0
        self._is_suspected = False

    def look(self) -> Silence:
        """How long it has been silent. To be called often; before its first word the answer is NONE."""
        if self._looked_at is None:
            return Silence.NONE
        now = time.monotonic()
        self._silent_seconds += min(now - self._looked_at, _LONGEST_STEP_SECONDS)
        self._looked_at = now
        if self._silent_seconds >= self._dead_seconds:
            return Silence.DEAD
        if self._silent_seconds >= self._suspect_seconds and not self._is_suspected:
            self._is_suspected = True
            return Silence.SUSPECT
        return Silence.NONE
