# SPDX-License-Identifier: Apache-2.0
"""A model's own program, imported in a process of its own, within a limit of time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.handlers.inference_script import program_path
from sagemaker_inference_lite.runtime.processes import kill_group

_MODULE = "sagemaker_inference_lite.inspection"
_MOST_BYTES = 1 << 20


class Program(NamedTuple):
    """What is known of a model's program.

    Attributes:
        path: Where it is, or would be.
        is_there: Whether it is.
        functions: Those that it defines of what the default handler service calls.
        error: Why it could not be imported, or was refused; "" where it was imported.
        is_missing_package: The error is that a package is not installed here; it may be where the model is served.
        trace: The traceback of that, from the program's own code on.
    """

    path: Path
    is_there: bool
    functions: tuple[str, ...] = ()
    error: str = ""
    is_missing_package: bool = False
    trace: str = ""


def inspect_program(
    model_dir: Path, environ: Mapping[str, str], program: str = "inference.py", limit_seconds: float = 60.0
) -> Program:
    """Imports the program of a model's directory as a worker would, and looks at its functions.

    Args:
        model_dir: The model's directory.
        environ: Of the process that imports it.
        program: Its file's name (SAGEMAKER_PROGRAM).
        limit_seconds: The longest that the import may take.
    """
    path = Path(program_path(str(model_dir), program))
    if not path.is_file():
        return Program(path, False)
    found = _import(model_dir.resolve(), environ, program, limit_seconds)
    if isinstance(found, str):
        return Program(path, True, error=f"{path} {found}")
    return Program(
        path,
        True,
        tuple(found.get("functions", ())),
        found.get("error", ""),
        found.get("kind") == "ModuleNotFoundError",
        found.get("trace", ""),
    )


def _import(model_dir: Path, environ: Mapping[str, str], program: str, limit_seconds: float) -> str | dict[str, str]:
    """What the process says; where it says nothing, how it ended."""
    reader, writer = os.pipe()
    argv = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", _MODULE]
    # What it prints is nobody's concern. It writes no caches into the model's directory, which is about to be packed.
    variables = {**environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with open(reader, "rb") as answer:
        try:
            process = subprocess.Popen(
                [*argv, str(writer), str(model_dir), program],
                cwd=model_dir,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writer,),
                start_new_session=True,
            )
        finally:
            os.close(writer)
        try:
            status = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return f"was not imported within {limit_seconds:.0f} seconds: what takes long belongs into model_fn."
        finally:
            kill_group(process.pid)
            process.wait()
        text = answer.read(_MOST_BYTES)
    try:
        said: dict[str, str] = json.loads(text)
    except ValueError:
        how = f"was ended by signal {-status}" if status < 0 else f"ended the process with status {status}"
        return f"{how} while it was imported."
    return said
