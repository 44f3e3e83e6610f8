# SPDX-License-Identifier: Apache-2.0
"""A private directory that stands for the container's /opt/ml, with links to what a person named."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.archives.unpacking import unpack
from sagemaker_inference_lite.errors import ArchiveError
from sagemaker_inference_lite.local.environment import TEMPORARY_NAME
from sagemaker_inference_lite.local.model_paths import Kind, LocalModel, ModelPathError, Models
from sagemaker_inference_lite.supervision.private_directory import private_directory

_PREFIX = "sil-serve-"
_LOCK = "lock"
# Where private directories are made if the path of the one for temporary files is too long for sockets.
_SHORT = Path("/tmp")


class Layout(NamedTuple):
    """Where the server finds the models.

    Attributes:
        base_dir: SAGEMAKER_BASE_DIR.
        directories: Each model's directory, by its name.
        shown: The paths to show instead of the private ones that lead to them, the longest of those first.
        lock: A descriptor. The directory is in use for as long as a process has it open.
    """

    base_dir: Path
    directories: dict[str, Path]
    shown: tuple[tuple[str, str], ...]
    lock: int


@contextmanager
def laid_out(models: Models) -> Iterator[Layout]:
    """Lay the models out as the platform does, in a directory that is gone when this is left.

    Files and directories are linked to, so that the server sees what changes in them. Archives are unpacked.
    What an earlier process left behind because it was killed, together with its server, is removed first.

    Raises:
        DirectoryError: No directory can be made.
        ModelPathError: An archive cannot be unpacked.
    """
    for parent in {Path(tempfile.gettempdir()), _SHORT}:
        _remove_leftovers(parent)
    with private_directory(_PREFIX) as base_dir:
        lock = os.open(base_dir / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            base_dir.joinpath(TEMPORARY_NAME).mkdir()
            directories = {model.name: _directory(base_dir, model, models.several) for model in models.models}
            for model in models.models:
                place(model, directories[model.name])
            shown = [pair for model in models.models for pair in _shown(model, directories[model.name])]
            shown.sort(key=lambda pair: len(pair[0]), reverse=True)
            yield Layout(base_dir, directories, tuple(shown), lock)
        finally:
            os.close(lock)


def place(model: LocalModel, directory: Path) -> None:
    """Make a model's directory what its path is now: a link, a directory with a link, or what the archive holds.

    Raises:
        ModelPathError: The archive cannot be unpacked. What was there before is still there.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    if model.kind is Kind.DIRECTORY:
        directory.symlink_to(model.path, target_is_directory=True)
    elif model.kind is Kind.FILE:
        directory.mkdir()
        directory.joinpath(model.path.name).symlink_to(model.path)
    else:
        _unpack_anew(model.path, directory)


def _directory(base_dir: Path, model: LocalModel, several: bool) -> Path:
    # As the platform does it (multi-model endpoints have each model in a directory of its own, in model/).
    return base_dir / "models" / model.name / "model" if several else base_dir / "model"


def _shown(model: LocalModel, directory: Path) -> list[tuple[str, str]]:
    own = str(model.path)
    linked = [(str(directory / model.path.name), own)] if model.kind is Kind.FILE else []
    return [*linked, (str(directory), own)]


def _unpack_anew(archive: Path, directory: Path) -> None:
    """Unpack beside what was unpacked before, and let the directory, which is a link, lead there."""
    before = directory.resolve() if directory.is_symlink() else None
    unpacked = Path(tempfile.mkdtemp(prefix=f"{directory.name}-", dir=directory.parent))
    try:
        unpack(archive, unpacked)
    except ArchiveError as error:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise ModelPathError(str(error)) from error
    except BaseException:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise
    link = unpacked.with_name(f"{unpacked.name}.link")
    link.symlink_to(unpacked.name, target_is_directory=True)
    link.replace(directory)
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Remove the directories of processes of this user's that were killed. Those in use are locked."""
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.lstat().st_uid == os.getuid() and not directory.is_symlink():
                _remove_unless_locked(directory)


def _remove_unless_locked(directory: Path) -> None:
    with directory.joinpath(_LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
