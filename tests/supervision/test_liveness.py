# SPDX-License-Identifier: Apache-2.0
"""Noticing that a process has fallen silent."""

from __future__ import annotations

import time

import pytest

from sagemaker_inference_lite.supervision.liveness import Liveness, Silence


class Clock:
    """time.monotonic(), as a test has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def looks(self, liveness: Liveness, seconds: int) -> list[Silence]:
        """What is found by one look a second."""
        found = []
        for _ in range(seconds):
            self.now += 1
            found.append(liveness.look())
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands."""
    return Clock(monkeypatch)


def test_a_silence_is_suspect_once_and_final_at_its_end(clock: Clock) -> None:
    """A word in between begins anew."""
    liveness = Liveness(suspect_seconds=3, dead_seconds=6)
    assert set(clock.looks(liveness, 100)) == {Silence.NONE}  # it has not begun to speak
    for _ in range(2):
        liveness.heard()
        assert clock.looks(liveness, 5) == [Silence.NONE, Silence.NONE, Silence.SUSPECT, Silence.NONE, Silence.NONE]
    assert clock.looks(liveness, 1) == [Silence.DEAD]


def test_a_container_that_was_frozen(clock: Clock) -> None:
    """An hour in which nobody looked is no hour of silence."""
    liveness = Liveness(suspect_seconds=3, dead_seconds=6)
    liveness.heard()
    clock.now += 3600
    assert liveness.look() is Silence.NONE
