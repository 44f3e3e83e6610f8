# SPDX-License-Identifier: Apache-2.0
"""A Docker engine, images that are built on it once, and containers that are gone after each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from container_images import Engine, Images, wheels_of
from docker.models.images import Image
from running_container import Container, Serve


@pytest.fixture(scope="session", autouse=True)
def engine() -> Iterator[Engine]:
    """The engine that make test-container has started; without it these tests are skipped."""
    host = os.environ.get("INFERENCE_LITE_TEST_ENGINE")
    if host is None:
        pytest.skip("no container engine of the tests' own runs here; make test-container starts one")
    client = docker.DockerClient(base_url=host, timeout=120)
    yield Engine(host, client, int(os.environ["INFERENCE_LITE_TEST_PROXY_PORT"]))
    client.close()


@pytest.fixture(scope="session")
def wheels() -> Path:
    """Wheels of all that the package needs on base_image, and its own."""
    return wheels_of("BOOKWORM")


@pytest.fixture(scope="session")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Images of this session."""
    return Images(engine.client, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def base_image(images: Images) -> str:
    """A Debian with Python 3.11 and nothing else."""
    return images.base("bookworm")


@pytest.fixture(scope="session")
def image(images: Images) -> Image:
    """container/Dockerfile on it."""
    return images.serving("bookworm")


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    """A base directory with one model, which multiplies by three, and which anybody may read."""
    code = tmp_path / "ml" / "model" / "code"
    code.mkdir(parents=True)
    (code.parent / "factor.json").write_text("3")
    (code.parent / "on_load").write_text("echo")
    (code / "inference.py").write_text(
        "import json, logging\n"
        "from pathlib import Path\n\n"
        "def model_fn(model_dir):\n"
        "    print('the model is loaded')\n"
        "    return json.loads(Path(model_dir, 'factor.json').read_text())\n\n"
        "def predict_fn(data, model):\n"
        "    logging.getLogger('mine').warning('asked for %d', len(data))\n"
        "    return data * model\n"
    )
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    return tmp_path / "ml"


@pytest.fixture
def serve(engine: Engine, image: Image, base_dir: Path) -> Iterator[Serve]:
    """Runs containers; removes them after the test."""
    containers: list[Container] = []

    def run(command: str | list[str] = "serve", of: Image = image, **options: Any) -> Container:
        containers.append(Container(engine.client, of, base_dir, command, **options))
        return containers[-1]

    yield run
    for container in containers:
        container.remove()
