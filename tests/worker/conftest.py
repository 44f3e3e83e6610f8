# SPDX-License-Identifier: Apache-2.0
"""What the tests of the worker side share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets, which pytest's own may not be."""
    parent = Path(tempfile.mkdtemp(prefix="test-"))
    directory = parent / "private"
    directory.mkdir()
    yield directory
    shutil.rmtree(parent)
