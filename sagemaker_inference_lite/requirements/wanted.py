# SPDX-License-Identifier: Apache-2.0
"""What a model's ``code/requirements.txt`` asks for, and whether it may."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.errors import RequirementsError
from sagemaker_inference_lite.settings import Settings

_HINT = "Put the packages into the image and take the file out of the model"


class Requirements(NamedTuple):
    """A requirements.txt that names something.

    Attributes:
        path: The file, an absolute path. Relative paths in it start from its directory.
        wheels: The directory beside it that holds all it may be installed from; None where a package index may.
    """

    path: Path
    wheels: Path | None


def to_install(model_dir: str | os.PathLike[str], settings: Settings) -> Requirements | None:
    """What has to be installed before the model's handler is imported.

    Args:
        model_dir: The model's directory.
        settings: Say whether anything may be.

    Returns:
        None where the model brings no requirements.txt, or an empty one.

    Raises:
        RequirementsError: the file cannot be read, or may not be installed; names the file and the setting.
    """
    found = find(model_dir)
    if found is not None:
        _check_allowed(found.path, settings)
    return found


def find(model_dir: str | os.PathLike[str]) -> Requirements | None:
    """The model's requirements.txt; None where there is none, or it holds nothing but comments.

    Raises:
        RequirementsError: it is there and cannot be read.
    """
    if not os.path.lexists(os.path.join(model_dir, "code", "requirements.txt")):
        return None  # as nearly always, and to say so in this way costs a worker a tenth of the memory
    code = Path(model_dir, "code").absolute()
    path, wheels = code / "requirements.txt", code / "wheels"
    if not any(_asks(line) for line in _read(path).splitlines()):
        return None
    return Requirements(path, wheels if wheels.is_dir() else None)


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading it might never end
            raise RequirementsError(f"{path} cannot be read: it is a pipe or a device, and no file.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return b""
        raise RequirementsError(f"{path} cannot be read: it is a link to nowhere.") from None
    except OSError as error:
        raise RequirementsError(f"{path} cannot be read: {error.strerror or error}.") from error


def _asks(line: bytes) -> bool:
    text = line.replace(b"\xef\xbb\xbf", b"").strip()  # some editors begin a file with that mark
    return bool(text) and not text.startswith(b"#")


def _check_allowed(path: Path, settings: Settings) -> None:
    if settings.install_requirements or (settings.install_requirements is None and not settings.multi_model):
        return
    if settings.install_requirements is None:
        raise RequirementsError(
            f"{path} asks for packages, and with several models none are installed unless "
            f"SAGEMAKER_INSTALL_REQUIREMENTS=true allows it. {_HINT}, or allow it."
        )
    raise RequirementsError(
        f"{path} asks for packages, which SAGEMAKER_INSTALL_REQUIREMENTS=false forbids. {_HINT}, or allow it."
    )
