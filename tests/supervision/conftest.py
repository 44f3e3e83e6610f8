# SPDX-License-Identifier: Apache-2.0
"""What the tests of supervision share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from destination import Destination
from line import Line


@pytest.fixture
def line() -> Iterator[Line]:
    """A line to a program that misbehaves."""
    line = Line()
    yield line
    line.close()


@pytest.fixture
def destination() -> Iterator[Destination]:
    """Where a test has lines written to. Closed last: a thread that waits to write has to be shaken off before."""
    destination = Destination()
    yield destination
    destination.close()
