# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: which package they test, and an environment that says nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import sagemaker_inference_lite

# How long something takes on a busy machine is no matter of these tests.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]
PREFIXES = ("SAGEMAKER_", "MMS_")


def pytest_configure() -> None:
    """Refuses to run where the working tree would be tested in place of the installed package."""
    found = Path(sagemaker_inference_lite.__file__).resolve().parent
    if os.environ.get("INFERENCE_LITE_TEST_INSTALLED") and found == ROOT / "sagemaker_inference_lite":
        raise pytest.UsageError(f"the installed package is to be tested, but {found} was imported")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what the machine's own environment would tell the code under test."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name == "MODEL_SERVER_HOME":
            monkeypatch.delenv(name)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets, which pytest's own may not be."""
    parent = Path(tempfile.mkdtemp(prefix="test-"))
    directory = parent / "private"
    directory.mkdir()
    yield directory
    shutil.rmtree(parent)
