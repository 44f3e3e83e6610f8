# SPDX-License-Identifier: Apache-2.0
"""Packages made on the spot, without a network and without setuptools."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

# A backend within the source tree needs nothing installed to build it.
_PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_wheel(directory: Path, name: str, version: str, requires: Iterable[str] = (), source: str = "") -> Path:
    """A wheel with one module that knows its VERSION."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        f"{name}.py": f"VERSION = {version!r}\n{source}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def make_sdist(directory: Path, name: str, version: str, build: str) -> Path:
    """A source distribution; to build it runs these statements."""
    files = {
        "pyproject.toml": _PYPROJECT,
        "backend.py": f"def build_wheel(directory, config_settings=None, metadata_directory=None):\n    {build}\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{file}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def ask_for(model_dir: Path, requirements: str) -> Path:
    """Write a model's code/requirements.txt; the directory that its wheels belong into, which is made."""
    wheels = model_dir / "code" / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (model_dir / "code" / "requirements.txt").write_text(requirements)
    return wheels
