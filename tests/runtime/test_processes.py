# SPDX-License-Identifier: Apache-2.0
"""Ends of processes in words and as exit statuses."""

from __future__ import annotations

import signal

import pytest

from sagemaker_inference_lite.runtime.processes import describe, exit_code


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "exited with status 0"),
        (1, "exited with status 1"),
        (137, "exited with status 137"),
        (-signal.SIGTERM, "was ended by SIGTERM"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-signal.SIGKILL, "was killed by SIGKILL: most likely the container ran out of memory"),
        (-40, "was ended by signal 40"),
    ],
)
def test_words(returncode: int, words: str) -> None:
    """A status is told as it is, a signal by its name where it has one, and SIGKILL with what it suggests."""
    assert describe(returncode) == words


@pytest.mark.parametrize(("returncode", "status"), [(0, 0), (1, 1), (255, 255), (-1, 129), (-9, 137), (-15, 143)])
def test_statuses(returncode: int, status: int) -> None:
    """A status is passed on as it is, a signal as 128 and its number."""
    assert exit_code(returncode) == status
