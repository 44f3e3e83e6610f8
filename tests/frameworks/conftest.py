# SPDX-License-Identifier: Apache-2.0
"""Servers and models for the tests that need real frameworks."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_server import Server, serving

NEEDED = ("onnxruntime", "sagemaker_inference", "skl2onnx", "torch")
DEFAULT_HANDLER = "sagemaker_inference_lite.default_handler_service"


@pytest.fixture(scope="session", autouse=True)
def _frameworks() -> None:
    """Skips these tests where their frameworks are not installed; make test-frameworks installs them."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} in this environment; run make test-frameworks")
    # The tests ask nobody outside this machine. ONNX Runtime also starts a thread for its reports when it is imported.
    os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")


@pytest.fixture(scope="module")
def server(_frameworks: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A multi-model server whose zygote has imported the frameworks, shared by a module's tests."""
    environ = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": "30",
        "SAGEMAKER_MODEL_SERVER_PRELOAD": "torch,onnxruntime,sklearn.linear_model",
        # More than one, whatever the machine has: threads are what a fork can break.
        "OMP_NUM_THREADS": "2",
    }
    with serving(tmp_path_factory.mktemp("base"), DEFAULT_HANDLER, **environ) as server:
        yield server


@pytest.fixture
def model_dir(server: Server, request: pytest.FixtureRequest) -> Path:
    """An empty directory for a model of this test's own; the name above it is the model's."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    directory = server.base_dir / "models" / name / "model"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture(scope="session")
def iris(_frameworks: None) -> Any:
    """Iris as scikit-learn has it, ``data`` (150, 4) and ``target`` (150,): real measurements."""
    from sklearn.datasets import load_iris

    return load_iris()


@pytest.fixture(scope="session")
def classifier(iris: Any) -> Any:
    """A classifier of scikit-learn's, trained on iris."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(iris.data, iris.target)
