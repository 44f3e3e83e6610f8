# SPDX-License-Identifier: Apache-2.0
"""What the wheel holds, and what importing the package costs."""

from __future__ import annotations

import email.message
import email.parser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sagemaker_inference_lite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sagemaker_inference_lite"
BUILD_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")

# Of the package's modules, those that a supervisor or a command pays for. They must start in no time and stay small.
LIGHT = ("", ".errors", ".settings", ".cli", ".supervision", ".mms", ".model_server")
HEAVY = ("numpy", "requests", "orjson", "scipy", "sklearn", "mms")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is being tested; one built from a copy of the tree where none is named."""
    named = os.environ.get("INFERENCE_LITE_TEST_WHEEL")
    if named:
        return Path(named)
    copy, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return next(made.glob("*.whl"))


@pytest.fixture(scope="session")
def names(wheel: Path) -> set[str]:
    """The names of the wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> email.message.Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def test_every_file_of_the_package_is_shipped(names: set[str]) -> None:
    """The wheel holds each file of the package and no other, apart from its own records."""
    tree = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == tree


@pytest.mark.parametrize("name", ["py.typed", "mms/front_end.jar", "mms/log4j2.xml"])
def test_data_is_shipped(names: set[str], name: str) -> None:
    """The wheel holds the files that no import reaches."""
    assert f"{PACKAGE}/{name}" in names


def test_licence_is_shipped(names: set[str], metadata: email.message.Message) -> None:
    """The licence travels in the wheel and is named in its metadata."""
    assert any(".dist-info/" in name and name.endswith("/LICENSE") for name in names)
    assert "Apache-2.0" in (metadata["License"], metadata["License-Expression"])


def test_metadata(metadata: email.message.Message) -> None:
    """The metadata states the package's version, the Pythons it is for and the README."""
    assert metadata["Version"] == sagemaker_inference_lite.__version__
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_requirements_are_bounded_below(metadata: email.message.Message) -> None:
    """Every requirement names the oldest release that will do, and the extras are the documented ones."""
    requirements = metadata.get_all("Requires-Dist") or []
    assert all(">=" in requirement for requirement in requirements)
    assert {"jre", "demo", "test", "check"} <= set(metadata.get_all("Provides-Extra") or [])


@pytest.mark.parametrize("module", LIGHT)
def test_importing_is_light(module: str) -> None:
    """Importing the package, its settings or its launch side imports no numpy, no HTTP client and no codec."""
    name = PACKAGE + module
    code = f"import sys, {name}; print(*sorted(set(sys.modules) & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if f"No module named '{name}'" in done.stderr:
        pytest.skip(f"{name} does not exist")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
