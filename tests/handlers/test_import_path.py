# SPDX-License-Identifier: Apache-2.0
"""Modules of one name in two directories."""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from sagemaker_inference_lite import errors
from sagemaker_inference_lite.handlers.import_path import import_file, put_first_on_path

pytestmark = pytest.mark.usefixtures("modules_as_they_were")


def directory(path: Path, **files: str) -> Path:
    """A directory of Python files."""
    path.mkdir()
    for name, text in files.items():
        file = path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
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


@pytest.mark.parametrize("own", ["tools/__init__.py", "tools.py", "tools/deep.py"])
def test_a_package_without_a_file_is_forgotten_too(tmp_path: Path, own: str) -> None:
    """A package that has no __init__.py gives way to whatever the directory has under its name."""
    first, second = directory(tmp_path / "first"), directory(tmp_path / "second")
    for path, where in ((first / "tools" / "deep.py", "first"), (second / own, "second")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"WHERE = {where!r}")
    put_first_on_path(first)
    kept = importlib.import_module("tools.deep")
    put_first_on_path(second)
    name = "tools.deep" if own == "tools/deep.py" else "tools"
    assert importlib.import_module(name).WHERE == "second"
    assert kept.WHERE == "first"


def test_a_directory_that_is_no_package_leaves_packages_alone(tmp_path: Path) -> None:
    """A directory without __init__.py would not be imported beside a package of its name, which stays."""
    first = directory(tmp_path / "first", **{"tools/__init__": "", "data/__init__": ""})
    second = directory(tmp_path / "second", **{"tools/other": ""})
    (second / "data").mkdir()
    put_first_on_path(first)
    before = importlib.import_module("tools"), importlib.import_module("data")
    put_first_on_path(second)
    assert (importlib.import_module("tools"), importlib.import_module("data")) == before


def test_extension_modules_count(tmp_path: Path) -> None:
    """A name is taken by whatever file can be imported under it."""
    put_first_on_path(directory(tmp_path / "first", fast=""))
    importlib.import_module("fast")
    second = directory(tmp_path / "second")
    (second / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    put_first_on_path(second)
    assert "fast" not in sys.modules


def test_a_link_to_the_directory_is_the_directory(tmp_path: Path) -> None:
    """Modules that were imported under another path of the same directory keep their state."""
    path = directory(tmp_path / "first", neighbour="")
    (tmp_path / "link").symlink_to(path)
    put_first_on_path(path)
    module = importlib.import_module("neighbour")
    put_first_on_path(tmp_path / "link")
    assert importlib.import_module("neighbour") is module


def test_an_environment_around_a_handler_installs_nothing(tmp_path: Path) -> None:
    """A module beside the handler is none of an installed package, though an environment was made in that directory."""
    app = directory(tmp_path / "app", neighbour="WHERE = 'handler'")
    venv.EnvBuilder(symlinks=True).create(app)
    code = directory(tmp_path / "code", neighbour="WHERE = 'model'")
    program = (
        f"import sys; sys.path[:0] = {[str(Path(errors.__file__).parents[1]), str(app)]!r}; import neighbour; "
        "from pathlib import Path; from sagemaker_inference_lite.handlers.import_path import put_first_on_path; "
        f"put_first_on_path(Path({str(code)!r})); import neighbour; print(neighbour.WHERE)"
    )
    argv = [str(app / "bin" / "python"), "-c", program]
    assert subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout == "model\n"


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
    (tmp_path / "gone.py").write_text("import sys; del sys.modules[__name__]; 1/0")
    with pytest.raises(ZeroDivisionError):
        import_file("a_file_that_is_gone", tmp_path / "gone.py")
    with pytest.raises(ImportError, match="is not a Python file"):
        import_file("a_text", tmp_path / "text.txt")
