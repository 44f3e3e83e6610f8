# SPDX-License-Identifier: Apache-2.0
"""Multi-model mode: packages of one model alone, installed when it is loaded, in the process that loads it."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Union

from sagemaker_inference_lite.errors import ModelError, RequirementsError
from sagemaker_inference_lite.requirements import installer, overlay
from sagemaker_inference_lite.requirements.wanted import Requirements, to_install
from sagemaker_inference_lite.settings import Settings

# Text where it can be: the first Path that a worker makes takes 0.2 MB of memory of its own.
StrPath = Union[str, "os.PathLike[str]"]

logger = logging.getLogger(__name__)

_OVERLAY = "overlay"
_LOCK = "lock"
_DONE = "done"


def provide(model_dir: StrPath, directory: StrPath, settings: Settings) -> None:
    """Install what a model asks for, unless another worker of the model has, and let this process import it.

    Does nothing for a single model, whose packages are installed before the server starts.

    Args:
        model_dir: The model's directory.
        directory: Where this model's packages are; made if need be. Whoever unloads the model removes it.
        settings: Say whether packages are installed at all.

    Raises:
        ModelError: they may not be, or cannot be installed; names the package and the reason.
    """
    if not settings.multi_model:
        return
    try:
        requirements = to_install(model_dir, settings)
        if requirements is not None:
            _provide(requirements, Path(directory))
    except RequirementsError as error:
        raise ModelError(str(error)) from error.__cause__


def _provide(requirements: Requirements, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / _OVERLAY
    with open(directory / _LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel takes it back from a worker that is killed
        if not (directory / _DONE).exists():
            _install(requirements, place)
            (directory / _DONE).touch()
    overlay.activate(place)
    known = overlay.already_imported(place)
    if known:
        logger.warning(
            "%s installs %s, which the server has imported before: the model gets the server's version. "
            "For its own, nothing that the handler imports or SAGEMAKER_MODEL_SERVER_PRELOAD names may need it",
            requirements.path,
            ", ".join(known),
        )


def _install(requirements: Requirements, place: Path) -> None:
    logger.info("installing %s", requirements.path)
    begun = time.monotonic()
    reader, writer = os.pipe()
    with open(reader, "rb") as reasons:
        with open(writer, "wb"):
            argv = installer.command(requirements, place, writer)
            # In the worker's process group, which is killed when the load takes too long.
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[writer], cwd="/")
        with process:
            returncode = process.wait()
        failed = installer.failure(requirements, returncode, reasons.read())
    if failed is not None:
        raise failed
    logger.info("installed %s in %.1f s", requirements.path, time.monotonic() - begun)
