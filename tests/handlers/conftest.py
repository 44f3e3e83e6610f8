# SPDX-License-Identifier: Apache-2.0
"""What the tests of people's code share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def modules_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what a load does to sys.path and sys.modules."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)  # a module of a test's may have taken the place of another
