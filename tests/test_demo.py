# SPDX-License-Identifier: Apache-2.0
"""The demo, run for real: what it prints, that it leaves nothing behind, and how it fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running_server import all_gone, eventually

DEMO = Path(__file__).resolve().parents[1] / "demo" / "demo.py"

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def _libraries() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("rich", reason="rich is not installed")


def environment(tmp_path: Path, **environ: str) -> dict[str, str]:
    """An environment in which temporary files and notes of servers are the test's own."""
    temporary = tmp_path / "t"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary), "XDG_RUNTIME_DIR": str(temporary), **environ}


def run(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The demo, to its end."""
    command = [sys.executable, str(DEMO), *arguments]
    return subprocess.run(
        command, env=environment(tmp_path, **environ), capture_output=True, text=True, timeout=110, cwd=tmp_path
    )


def test_all_of_it(tmp_path: Path) -> None:
    """It shows the commands as one would type them, predictions stand below the truth, and nothing is left."""
    kept = tmp_path / "kept"
    done = run(tmp_path, "--keep", str(kept))
    assert (done.returncode, done.stderr) == (0, "")
    typed = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ sagemaker-inference-lite ")]
    assert typed == ["pack", "pack", "serve", "invoke", "invoke", "invoke"]
    for model in ("digits", "wine"):
        assert (kept / f"{model}.tar.gz").is_file()
        assert f"{model}: loaded in" in done.stdout
    pairs = re.findall(r"^held out: *(.*)\npredicted: *(.*)$", done.stdout, re.MULTILINE)
    assert len(pairs) == 2
    assert all(truth == predicted for truth, predicted in pairs)
    assert "200 answers in" in done.stdout
    assert "stopped: nothing is in flight" in (kept / "server.log").read_text()
    assert not [path for path in (tmp_path / "t").iterdir() if path.name.startswith(("sil-", "demo-"))]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo with --serve."""
    command = [sys.executable, str(DEMO), "--serve"]
    process = subprocess.Popen(
        command,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_serve(serving: subprocess.Popen[str]) -> None:
    """It serves on until Ctrl-C, which ends all of it."""
    assert serving.stdout is not None
    for line in serving.stdout:
        if "Ctrl-C stops it" in line:
            break
    processes = psutil.Process(serving.pid).children(recursive=True)
    assert len(processes) >= 3
    os.killpg(serving.pid, signal.SIGINT)
    serving.communicate(timeout=40)
    assert serving.returncode in (0, 130)
    eventually(lambda: all_gone(processes))


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    """A setting that cannot be used, and a directory that holds files: one sentence, and status 1."""
    done = run(tmp_path, SAGEMAKER_MODEL_SERVER_WORKERS="two")
    assert done.returncode == 1
    assert "The demo failed. " in done.stderr
    assert "SAGEMAKER_MODEL_SERVER_WORKERS='two'" in done.stdout + done.stderr
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    done = run(tmp_path, "--keep", str(tmp_path / "kept"))
    assert (done.returncode, done.stderr.strip()) == (1, f"The demo failed. {tmp_path / 'kept'} is not empty.")
