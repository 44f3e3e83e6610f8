# SPDX-License-Identifier: Apache-2.0
"""How large the image is, how soon a container is ready, and that both stay so on another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_images import Engine, Images
from docker.models.images import Image
from running_container import COMMANDED, Serve
from running_server import HANDLER, Server, eventually

MOST_BYTES = 220_000_000
# What a container may need beyond what its process needs.
MOST_SECONDS = 1.5
ROUNDS = 5


def layers(image: Image) -> Iterator[tuple[str, int]]:
    """What made each layer that holds something, and its size in bytes, the base's first."""
    for entry in reversed(image.history()):
        if entry["Size"]:
            yield (
                entry["CreatedBy"].replace("/bin/sh -c ", "").replace("#(nop) ", "").strip() or "the base",
                entry["Size"],
            )


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_size(images: Images, suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What lies above the base has 220 MB at most."""
    base = images.client.images.get(images.base(suite)).attrs["Size"]
    image = images.serving(suite)
    above = image.attrs["Size"] - base
    with capsys.disabled():
        print(f"\n{suite}: {above / 1e6:.0f} MB above the base")
        for made_by, size in layers(image):
            print(f"  {size / 1e6:7.3f} MB  {made_by[:70]}")
    assert above <= MOST_BYTES


def test_the_time_until_it_is_ready(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the run to the first /ping that is 200, and means it, there is little more than the process itself needs."""
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "on_load").write_text("echo")
    processes, containers = [], []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        server = Server(tmp_path / "own", HANDLER)
        try:
            server.ready()
            processes.append(time.monotonic() - begun)
            assert server.stop() == 0
        finally:
            server.kill()
        begun = time.monotonic()
        container = serve(environ={"SAGEMAKER_HANDLER": COMMANDED})
        container.ready()
        containers.append(time.monotonic() - begun)
        assert container.stop() == 0
    alone, contained = (sorted(each)[ROUNDS // 2] for each in (processes, containers))
    with capsys.disabled():
        print(f"\nready: {contained:.2f} s after docker run, {alone:.2f} s as a process without an archive of classes")
    assert contained - alone <= MOST_SECONDS


def test_what_was_prepared_travels(engine: Engine, images: Images, serve: Serve, tmp_path: Path) -> None:
    """Once the files have been through an archive that keeps whole seconds, Java still takes that of its classes."""
    image = images.serving("bookworm")
    original = engine.client.containers.create(image, "serve")
    with (tmp_path / "files.tar").open("wb") as file:
        for chunk in original.export():
            file.write(chunk)  # type: ignore[arg-type]  # bytes, whatever types-docker says
    original.remove()
    changes = [f"ENTRYPOINT {json.dumps(image.attrs['Config']['Entrypoint'])}"]
    engine.client.api.import_image_from_file(str(tmp_path / "files.tar"), "travelled", "here", changes=changes)
    # Java ends where it cannot use the archive.
    vmargs = {"SAGEMAKER_MODEL_SERVER_VMARGS": "-Xshare:on"}
    container = serve(of=engine.client.images.get("travelled:here"), environ=vmargs).ready()
    assert "its classes archived" in container.output()
    assert container.stop() == 0


def test_the_doctor_finds_nothing_wrong(engine: Engine, image: Image, serve: Serve) -> None:
    """Of the image from outside, nor inside a container of it; within seconds."""
    command = [sys.executable, "-m", "sagemaker_inference_lite", "doctor", "--json"]
    outside = subprocess.run(
        [*command, image.id or ""], env={**os.environ, "DOCKER_HOST": engine.host}, capture_output=True, text=True
    )
    assert outside.returncode == 0, outside.stdout + outside.stderr
    inside = serve(["sagemaker-inference-lite", "doctor", "--json"], environ={"SAGEMAKER_BIND_TO_PORT": "8099"})
    assert eventually(lambda: inside.end() is not None)
    assert inside.end() == 0, inside.output()
    assert "Java" in inside.output()
