# SPDX-License-Identifier: Apache-2.0
"""Projects that ``init`` makes, of each framework: trained, served and asked by their own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_inference_lite.project.generator import FRAMEWORKS


@pytest.mark.parametrize("framework", sorted(set(FRAMEWORKS) - {"sklearn"}))
def test_a_project_is_green_at_once(tmp_path: Path, framework: str) -> None:
    """Its training writes a model that its tests serve and ask."""
    made = tmp_path / "project"
    command = [sys.executable, "-m", "sagemaker_inference_lite", "init", str(made), "--framework", framework]
    subprocess.run(command, check=True, capture_output=True)
    trained = subprocess.run([sys.executable, "train.py"], cwd=made, capture_output=True, text=True, timeout=100)
    assert trained.returncode == 0, trained.stderr
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = subprocess.run(pytest_command, cwd=made, capture_output=True, text=True, timeout=100)
    assert tests.returncode == 0, tests.stdout
