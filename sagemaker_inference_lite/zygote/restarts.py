# SPDX-License-Identifier: Apache-2.0
"""How soon the worker of a connection is replaced that has ended without having been asked to."""

from __future__ import annotations

# A worker that has lived so long was well: the next end is the first of its kind again.
STEADY_SECONDS = 60.0

# Ends in a row, of workers that were asked nothing, after which the server of one model gives up.
MOST_ENDS = 4

# A model whose workers end unasked is loaded no more often than this.
LEAST_SECONDS = 1.0

_LONGEST_PAUSE_SECONDS = 60.0


class Restarts:
    """Counts the ends in a row of one connection's workers, and makes each pause twice as long as the one before.

    Attributes:
        ends: How many workers in a row have ended soon after their load, and were asked nothing before.
        pause_seconds: How long to wait before the next worker loads the model: after the first end only until a second
            has passed since the last load, and then at least 1, 2, 4 and so on, up to 60.
    """

    def __init__(self) -> None:
        self.ends = 0
        self.pause_seconds = 0.0

    def ended(self, has_answered: bool, lived_seconds: float) -> None:
        """Take in that a worker has ended, so long after it was forked."""
        is_steady = has_answered or lived_seconds >= STEADY_SECONDS
        self.ends = 1 if is_steady else self.ends + 1
        longer = 2.0 ** (self.ends - 2) if self.ends > 1 else 0.0
        self.pause_seconds = min(max(longer, LEAST_SECONDS - lived_seconds), _LONGEST_PAUSE_SECONDS)
