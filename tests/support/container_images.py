# SPDX-License-Identifier: Apache-2.0
"""An engine, and images that are built on it without a network, each once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import docker
from docker.models.images import Image

CONTAINER = Path(__file__).resolve().parents[2] / "container"
# What a build without a package index is told.
OFFLINE = {"PIP_NO_INDEX": "1"}


class Engine(NamedTuple):
    """The engine.

    Attributes:
        host: As DOCKER_HOST has it.
        client: Of the docker package.
        proxy_port: The port of loopback where a registry is taken for ECR's (tools/engine.py).
    """

    host: str
    client: docker.DockerClient
    proxy_port: int


def wheels_of(name: str) -> Path:
    """The directory of wheels of that name."""
    return Path(os.environ[f"INFERENCE_LITE_TEST_WHEELS_{name}"])


class Images:
    """Images, each made when it is first asked for."""

    def __init__(self, client: docker.DockerClient, scratch: Path) -> None:
        self.client = client
        self._scratch = scratch
        self._made: dict[Any, Image] = {}

    def base(self, suite: str) -> str:
        """The name of a Debian with Python and nothing else."""
        name = f"debian-python:{suite}"
        if name not in self._made:
            tar = Path(os.environ["INFERENCE_LITE_TEST_IMAGES"], f"{suite}.tar")
            self.client.api.import_image_from_file(str(tar), repository="debian-python", tag=suite)
            self._made[name] = self.client.images.get(name)
        return name

    def serving(self, suite: str) -> Image:
        """What container/Dockerfile makes of such a base."""
        return self.built(CONTAINER, suite, BASE_IMAGE=self.base(suite))

    def built(
        self, context: Path, wheels: str, dockerfile: str = "Dockerfile", also: str = "", **arguments: str
    ) -> Image:
        """What a directory's Dockerfile makes, with wheels, also others of that name, and without a network."""
        key = (context, wheels, dockerfile, also, *arguments.items())
        if key not in self._made:
            copy = self._scratch / f"context-{len(self._made)}"
            shutil.copytree(context, copy, ignore=shutil.ignore_patterns("wheels"))
            shutil.copytree(wheels_of(wheels.upper()), copy / "wheels")
            if also:
                shutil.copytree(wheels_of(also), copy / "wheels", dirs_exist_ok=True)
            self._made[key], _ = self.client.images.build(
                path=str(copy),
                dockerfile=dockerfile,
                buildargs={**OFFLINE, **arguments},
                network_mode="none",
                rm=True,
                forcerm=True,
            )
            shutil.rmtree(copy)
        return self._made[key]
