# SPDX-License-Identifier: Apache-2.0
"""How soon a worker that keeps ending is replaced."""

from __future__ import annotations

import pytest

from sagemaker_inference_lite.zygote.restarts import STEADY_SECONDS, Restarts


def test_pauses_grow_up_to_a_minute() -> None:
    """The first is replaced within a second, and each further one waits twice as long."""
    restarts = Restarts()
    pauses = []
    for _ in range(10):
        restarts.ended(has_answered=False, lived_seconds=0.25)
        pauses.append(restarts.pause_seconds)
    assert pauses == [0.75, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert restarts.ends == 10


@pytest.mark.parametrize(
    ("has_answered", "lived", "pause"), [(True, 0.25, 0.75), (True, 5, 0), (False, STEADY_SECONDS, 0)]
)
def test_a_worker_that_was_well_is_replaced_soon(has_answered: bool, lived: float, pause: float) -> None:
    """One that has answered, or has lived for a minute, ends for the first time; none is loaded twice in a second."""
    restarts = Restarts()
    for _ in range(3):
        restarts.ended(has_answered=False, lived_seconds=0.1)
    restarts.ended(has_answered, lived)
    assert restarts.ends == 1
    assert max(restarts.pause_seconds, 0) == pause
