# SPDX-License-Identifier: Apache-2.0
"""Projects that ``init`` makes, built on the engine as they lie there, and asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from container_images import Images
from running_container import Serve

ROWS = [[5.1, 3.5, 1.4, 0.2]]


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_project_s_image(images: Images, serve: Serve, tmp_path: Path, several: bool) -> None:
    """It serves what the project's training has written."""
    made = tmp_path / "project"
    more = ["--multi-model"] if several else []
    command = [sys.executable, "-m", "sagemaker_inference_lite", "init", str(made), *more]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run([sys.executable, "train.py"], cwd=made, check=True, capture_output=True)
    for path in made.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    image = images.built(
        made,
        "bookworm",
        also="SCIKIT_LEARN",
        BASE_IMAGE=images.base("bookworm"),
        PIP_BREAK_SYSTEM_PACKAGES="1",
    )
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
    assert (answer.status_code, answer.json()) == (200, [0]), container.output()
    assert container.stop() == 0
