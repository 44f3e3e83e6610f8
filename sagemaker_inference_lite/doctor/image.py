# SPDX-License-Identifier: Apache-2.0
"""An image on a Docker engine: whether SageMaker could start, stop and ask it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sagemaker_inference_lite.doctor.dockerfile import entry_point, labels
from sagemaker_inference_lite.errors import InferenceLiteError
from sagemaker_inference_lite.inspection.findings import Finding, Level

_PLATFORMS = ("amd64", "arm64")


class ImageError(InferenceLiteError):
    """An image cannot be looked at."""


def inspect_image(docker: Any, name: str) -> list[Finding]:
    """What there is to say of an image.

    Args:
        docker: The docker package.
        name: As docker run takes it.

    Raises:
        ImageError: No engine answers, or it has no such image.
    """
    try:
        image = docker.from_env().images.get(name)
    except docker.errors.ImageNotFound:
        raise ImageError(
            f"{name} is neither a path that is there nor an image of the engine's: docker pull {name}, or docker build."
        ) from None
    except docker.errors.DockerException as error:
        raise ImageError(
            f"{name} is not a path that exists, and no Docker engine answers that could know an image of that name "
            f"({error}). Start one, or set DOCKER_HOST."
        ) from error
    return list(_findings(image.attrs))


def _findings(attributes: dict[str, Any]) -> Iterator[Finding]:
    config = attributes.get("Config") or {}
    yield from labels(config.get("Labels") or {})
    yield from entry_point(config.get("Entrypoint"), config.get("Cmd"))
    platform = attributes.get("Architecture")
    if platform in _PLATFORMS and attributes.get("Os") == "linux":
        yield Finding(Level.OK, f"linux/{platform}, {attributes.get('Size', 0) / 1e6:,.0f} MB")
    else:
        yield Finding(
            Level.ERROR,
            f"The image is for {attributes.get('Os')}/{platform}, which SageMaker has no instances of.",
            "docker build --platform linux/amd64, or linux/arm64 for Graviton.",
        )
    user = config.get("User")
    yield Finding(Level.OK, f"It runs as {user or 'root'}")
