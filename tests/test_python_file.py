# SPDX-License-Identifier: Apache-2.0
"""Modules of one name in two directories."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sagemaker_inference_lite import errors
from sagemaker_inference_lite.python_file import import_file, put_first_on_path


@pytest.fixture(autouse=True)
def _modules_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what a test does to sys.path and sys.modules."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


def directory(path: Path, **files: str) -> Path:
    """A directory of Python files."""
    path.mkdir()
    for name, text in files.items():
        path.joinpath(*name.split("__")).parent.mkdir(exist_ok=True)
        path.joinpath(*name.split("__")).with_suffix(".py").write_text(text)
    return path


def test_a_directory_s_own_modules_come_first(tmp_path: Path) -> None:
    """A module that was imported from elsewhere under the same name is forgotten; who has imported it keeps it."""
    first = directory(tmp_path / "first", neighbour="WHERE = 'first'")
    second = directory(tmp_path / "second", neighbour="WHERE = 'second'")
    put_first_on_path(first)
    kept = importlib.import_module("neighbour")
    put_first_on_path(second)
    assert importlib.import_module("neighbour").WHERE == "second"
    assert kept.WHERE == "first"
    put_first_on_path(first)
    assert importlib.import_module("neighbour").WHERE == "first"
    assert sys.path.count(str(first)) == 1


def test_a_package_is_forgotten_with_its_modules(tmp_path: Path) -> None:
    """What lies in a package of the same name from elsewhere is forgotten as well."""
    for where in ("first", "second"):
        path = directory(tmp_path / where)
        directory(path / "tools")
        (path / "tools" / "__init__.py").touch()
        (path / "tools" / "deep.py").write_text(f"WHERE = {where!r}")
        put_first_on_path(path)
        found = importlib.import_module("tools.deep").WHERE
        assert found == where


def test_modules_of_the_directory_itself_stay(tmp_path: Path) -> None:
    """A module that was imported from the directory keeps its state."""
    path = directory(tmp_path / "first", neighbour="")
    put_first_on_path(path)
    module = importlib.import_module("neighbour")
    put_first_on_path(path)
    assert importlib.import_module("neighbour") is module


def test_installed_modules_stay(tmp_path: Path) -> None:
    """Modules of the standard library, installed packages and this one stay, whatever the directory holds."""
    names = ("json", "numpy", "sagemaker_inference_lite", "sys", "__main__")
    before = {name: sys.modules[name] for name in names}
    put_first_on_path(directory(tmp_path / "first", **dict.fromkeys(names, "")))
    assert {name: sys.modules[name] for name in names} == before
    assert json.loads("1") == np.int64(1)
    assert sys.modules["sagemaker_inference_lite.errors"] is errors


def test_modules_made_a_moment_ago_are_found(tmp_path: Path) -> None:
    """A file that is written after its directory was looked into is found all the same."""
    path = directory(tmp_path / "first")
    for number in range(20):
        put_first_on_path(path)
        assert importlib.util.find_spec(f"fresh_{number}") is None
        (path / f"fresh_{number}.py").touch()
        put_first_on_path(path)
        importlib.import_module(f"fresh_{number}")


def test_an_import_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A file whose code raises is no module."""
    (tmp_path / "broken.py").write_text("1/0")
    with pytest.raises(ZeroDivisionError):
        import_file("a_broken_file", tmp_path / "broken.py")
    assert "a_broken_file" not in sys.modules
    with pytest.raises(ImportError, match="is not a Python file"):
        import_file("a_text", tmp_path / "text.txt")
