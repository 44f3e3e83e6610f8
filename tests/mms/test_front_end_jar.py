# SPDX-License-Identifier: Apache-2.0
"""The jar that the package ships is what the Java sources in the tree compile to."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sagemaker_inference_lite.mms import command

ROOT = Path(__file__).resolve().parents[2]
# Class files of one target differ between compilers; this is the one that the shipped jar was made with.
COMPILER = "javac 17."


def entries(jar: Path) -> dict[str, bytes]:
    """What a jar holds."""
    with zipfile.ZipFile(jar) as file:
        return {name: file.read(name) for name in file.namelist()}


def compiler_version() -> str:
    """What javac says of itself; skips without one."""
    if shutil.which("javac") is None:
        pytest.skip("no javac on PATH; Debian's default-jdk-headless has it, and so has any JDK")
    return subprocess.run(["javac", "-version"], capture_output=True, text=True, check=True).stdout


def test_the_shipped_jar_is_what_the_sources_compile_to(tmp_path: Path) -> None:
    """Compiled again, the sources give the same entries; with the same compiler, the same bytes."""
    version = compiler_version()
    output = tmp_path / "front_end.jar"
    build = [sys.executable, str(ROOT / "java" / "build.py"), "--output", str(output)]
    subprocess.run([*build, "--mms-jar", str(command.find_model_server_jar())], check=True)
    shipped, compiled = entries(command.PLUGIN_JAR), entries(output)
    assert shipped.keys() == compiled.keys()
    if version.startswith(COMPILER):
        assert shipped == compiled


def test_the_shipped_classes_run_on_java_8() -> None:
    """Every class has the version number of Java 8, 52 (JVM specification, table 4.1-A)."""
    classes = {name: data for name, data in entries(command.PLUGIN_JAR).items() if name.endswith(".class")}
    assert len(classes) >= 6
    assert {int.from_bytes(data[6:8], "big") for data in classes.values()} == {52}
