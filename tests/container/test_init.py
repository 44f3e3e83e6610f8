# SPDX-License-Identifier: Apache-2.0
"""Projects that ``init`` makes, built on the engine as they lie there, and asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from container_images import Images
from docker.models.images import Image
from running_container import Serve

ROWS = [[5.1, 3.5, 1.4, 0.2]]


# Where the wheels of each are (tools/run_tests.py); those of one's own code need nothing but numpy.
WHEELS = {
    "sklearn": "SCIKIT_LEARN",
    "xgboost": "XGBOOST",
    "lightgbm": "LIGHTGBM",
    "pytorch": "HUGGING_FACE",
    "onnx": "ONNX",
    "custom": "",
}


# What trains where scikit-learn, which has the data, is not.
TRAIN = """
import importlib.machinery, runpy, sys, types
import numpy as np
package = types.ModuleType("sklearn")
package.__spec__ = importlib.machinery.ModuleSpec("sklearn", None)
datasets = types.ModuleType("sklearn.datasets")
rows = np.random.default_rng(0).normal(size=(150, 4))
datasets.load_iris = datasets.load_wine = lambda return_X_y: (rows, np.arange(150) % 3)
sys.modules.update({"sklearn": package, "sklearn.datasets": datasets})
runpy.run_path("train.py", run_name="__main__")
"""


def train(images: Images, image: Image, made: Path, framework: str) -> None:
    """Runs a project's training: here, where scikit-learn is, or in the image, where the framework is."""
    if framework in ("sklearn", "onnx", "custom"):
        subprocess.run([sys.executable, "train.py"], cwd=made, check=True, capture_output=True)
        return
    mount = {str(made): {"bind": "/project", "mode": "rw"}}
    images.client.containers.run(
        image, ["python3", "-c", TRAIN], remove=True, network_mode="none", volumes=mount, working_dir="/project"
    )


@pytest.mark.parametrize(
    ("framework", "several"), [("sklearn", True), *((name, False) for name in WHEELS)], ids=["several", *WHEELS]
)
def test_a_project_s_image(images: Images, serve: Serve, tmp_path: Path, framework: str, several: bool) -> None:
    """It serves what the project's training has written."""
    made = tmp_path / "project"
    more = ["--multi-model"] if several else []
    command = [sys.executable, "-m", "sagemaker_inference_lite", "init", str(made), "--framework", framework, *more]
    subprocess.run(command, check=True, capture_output=True)
    image = images.built(
        made,
        "bookworm",
        also=WHEELS[framework],
        # Its RUN apt-get finds what it wants: there is no network.
        BASE_IMAGE=images.base("bookworm-openmp" if framework == "lightgbm" else "bookworm"),
        PIP_BREAK_SYSTEM_PACKAGES="1",
    )
    train(images, image, made, framework)
    for path in made.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    place = "models" if several else "model"
    volumes = {str(made / place): {"bind": f"/opt/ml/{place}", "mode": "ro"}}
    environ = {"SAGEMAKER_MULTI_MODEL": "true"} if several else {}
    container = serve(of=image, environ=environ, volumes=volumes).ready()
    asked_at = "/invocations"
    if several:
        body = {"model_name": "iris", "url": "/opt/ml/models/iris"}
        loaded = requests.post(f"{container.url}/models", json=body, timeout=60)
        assert loaded.status_code == 200, container.output()
        asked_at = "/models/iris/invoke"
    answer = requests.post(f"{container.url}{asked_at}", json=ROWS, timeout=30)
    assert (answer.status_code, len(answer.json())) == (200, 1), container.output()
    assert container.stop() == 0
