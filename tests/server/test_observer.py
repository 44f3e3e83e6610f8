# SPDX-License-Identifier: Apache-2.0
"""What a program that runs a server is told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running_server import free_port

# Prints each event as a line of JSON, and stops once it has been told enough.
PROGRAM = """
import json, os, signal, sys
from sagemaker_inference_lite import model_server

def observe(event):
    os.write(9, json.dumps([type(event).__name__, *event]).encode() + b"\\n")
    if type(event).__name__ in sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGTERM)

model_server.serve(None, observe)
"""


def events(base_dir: Path, *last: str, **environ: str) -> tuple[list[list[Any]], int]:
    """What a server with that base directory tells, up to one of these events, and its exit status."""
    reader, writer = os.pipe()
    settings = {"SAGEMAKER_BASE_DIR": str(base_dir), "SAGEMAKER_BIND_TO_PORT": str(free_port()), **environ}
    with subprocess.Popen(
        ["bash", "-c", f'exec "$0" -c "$1" {" ".join(last)} 9>&{writer}', sys.executable, PROGRAM],
        env={**os.environ, **settings},
        pass_fds=[writer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(writer)
        with open(reader) as lines:
            found = [json.loads(line) for line in lines]
        return found, process.wait(60)


def test_a_model_and_what_it_takes(tmp_path: Path) -> None:
    """One event when it listens, one when the model is loaded, with a request that it answers, one when it is ready."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    (tmp_path / "model").mkdir()
    model = linear_model.LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    joblib.dump(model, tmp_path / "model" / "model.joblib")
    found, status = events(tmp_path, "Ready", SAGEMAKER_MODEL_SERVER_WORKERS="2")
    assert status == 0
    by_name = {name: values for name, *values in found}
    assert by_name["Listening"] == by_name["Ready"]
    assert by_name["Ready"][0].startswith("http://")
    name, seconds, *about = by_name["ModelLoaded"]
    assert (name, about) == (
        "model",
        ["LogisticRegression (scikit-learn)", "rows of 2 numbers", "application/json", "[[0.0, 0.0]]"],
    )
    assert 0 <= seconds < 60
    assert [name for name, *_ in found].count("ModelLoaded") == 1


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """The reason is told, before the server ends."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text("import nothing_of_that_name\n")
    found, status = events(tmp_path, "Ready")
    assert status == 6
    (failed,) = {tuple(values) for name, *values in found if name == "ModelFailed"}
    assert failed[0] == "model"
    assert "No module named 'nothing_of_that_name'" in failed[1]


def test_several_models_are_ready_without_any(tmp_path: Path) -> None:
    """A server of several models is ready as soon as it listens."""
    (tmp_path / "models").mkdir()
    found, status = events(tmp_path, "Ready", SAGEMAKER_MULTI_MODEL="true")
    assert ([name for name, *_ in found], status) == (["Listening", "Ready"], 0)
