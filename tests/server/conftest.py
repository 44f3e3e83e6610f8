# SPDX-License-Identifier: Apache-2.0
"""Real servers for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from running_server import HANDLER, HasFileno, Server, serving

# What Java's own settings are called (Setting.java).
OURS = "sagemaker_inference_lite"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers; ends those that the test leaves running."""
    servers: list[Server] = []

    def starter(
        handler: str | None = HANDLER, output: HasFileno | None = None, closed: str = "", **environ: str
    ) -> Server:
        servers.append(Server(tmp_path, handler, output, closed, **environ))
        return servers[-1]

    yield starter
    for server in servers:
        server.kill()


@pytest.fixture
def start_single(start: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Starts single-model servers whose model obeys ``on_load`` at its load."""

    def starter(on_load: str = "echo", **keywords: Any) -> Server:
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "on_load").write_text(on_load)
        return start(**keywords)

    return starter


def _shared(tmp_path_factory: pytest.TempPathFactory, **environ: str) -> Iterator[Server]:
    base_dir = tmp_path_factory.mktemp("base")
    (base_dir / "model").mkdir()
    (base_dir / "model" / "on_load").write_text("echo")
    with serving(base_dir, **environ) as server:
        yield server


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A single-model server with two workers, shared by a module's tests; it must stop cleanly after them."""
    yield from _shared(tmp_path_factory, SAGEMAKER_MODEL_SERVER_WORKERS="2", SAGEMAKER_MODEL_SERVER_TIMEOUT="2")


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As `single`, with little memory for bodies, and with limits for clients that do nothing of a second or two."""
    options = {"XX:MaxDirectMemorySize": "64m", f"D{OURS}.stall_seconds": 2, f"D{OURS}.short_stall_seconds": 1}
    yield from _shared(
        tmp_path_factory,
        SAGEMAKER_MODEL_SERVER_WORKERS="1",
        SAGEMAKER_MODEL_SERVER_VMARGS=" ".join(f"-{name}={value}" for name, value in options.items()),
    )


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A multi-model server, shared by a module's tests; it must stop cleanly after them."""
    yield from _shared(
        tmp_path_factory,
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_MODEL_SERVER_TIMEOUT="2",
        SAGEMAKER_STARTUP_TIMEOUT="6",
        SAGEMAKER_MAX_PAYLOAD_IN_MB="2",
    )


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A name for a model of this test's own."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)
