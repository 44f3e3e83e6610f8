# SPDX-License-Identifier: Apache-2.0
"""The libraries that models need, none of which this package depends on; and what of the machine they may use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers.hints import how_to_add


class Resources(NamedTuple):
    """What a model may use of the machine.

    Attributes:
        gpu_id: The GPU's number; None without one.
        threads: How many threads may compute one answer; None leaves it to the library.
    """

    gpu_id: int | None
    threads: int | None


def threads(environ: Mapping[str, str]) -> int | None:
    """OMP_NUM_THREADS, which may be a list with one number for each level of nesting; None where it is none."""
    first = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def library(name: str, path: Path, hint: str = "") -> Any:
    """A library that a model's file needs.

    Args:
        name: Its module.
        path: The file.
        hint: What else to say where it is missing.

    Raises:
        ModelError: It is not installed; the message has the line for code/requirements.txt.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise  # it is installed, and misses something itself
        raise ModelError(
            f"{path} needs the package {name}, which is not installed{hint}. {how_to_add(name)}"
        ) from error
