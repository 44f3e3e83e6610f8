# SPDX-License-Identifier: Apache-2.0
"""``init``: projects that work as they lie there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

from sagemaker_inference_lite.project.generator import FRAMEWORKS

ROOT = Path(__file__).resolve().parents[2]


def project(tmp_path: Path, *arguments: str) -> Path:
    """A project that has just been made."""
    done = run("init", "project", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "project"


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_project_is_whole(tmp_path: Path, framework: str, several: bool) -> None:
    """Nothing is left to fill in, Python compiles, scripts are the shell's, and the image has its labels."""
    made = project(tmp_path, "--framework", framework, *(["--multi-model"] if several else []))
    files = [path for path in made.rglob("*") if path.is_file()]
    names = {path.relative_to(made).as_posix() for path in files}
    assert {"Dockerfile", "train.py", "deploy.py", "tests/test_model.py", ".dockerignore", "README.md"} <= names
    for path in files:
        text = path.read_text()
        assert (
            "@" not in text.replace("@pytest", "").replace("@-", "").replace("@contextmanager", "")
            or path.suffix == ".sh"
        )
        if path.suffix == ".py":
            compile(text, str(path), "exec")
    script = made / "build_and_push.sh"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    dockerfile = (made / "Dockerfile").read_text()
    for label in ("multi-models=true", "accept-bind-to-port=true"):
        assert f"com.amazonaws.sagemaker.capabilities.{label}" in dockerfile
    lint = [sys.executable, "-m", "ruff", "check", "--quiet", "--isolated", "--select", "E9,F", str(made)]
    if subprocess.run([sys.executable, "-m", "ruff", "--version"], capture_output=True).returncode == 0:
        # What a training imports for the other kind of project is not used in this one.
        assert subprocess.run([*lint, "--ignore", "F401"]).returncode == 0


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_project_of_scikit_learn(tmp_path: Path, several: bool) -> None:
    """Its training writes a model, its tests are green, and what is packed is fit to be served."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    made = project(tmp_path, *(["--multi-model"] if several else []))
    subprocess.run([sys.executable, "train.py"], cwd=made, check=True, timeout=60)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = subprocess.run(pytest_command, cwd=made, capture_output=True, text=True, timeout=90)
    assert tests.returncode == 0, tests.stdout
    for model in ("models/iris", "models/wine") if several else ("model",):
        done = run("pack", model, "--dry-run", cwd=made)
        assert (done.returncode, done.stderr) == (0, "")


def test_files_that_are_there(tmp_path: Path) -> None:
    """A directory with files is left alone, unless it is to be written over; then other files stay."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "notes").write_text("mine")
    done = run("init", "project", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "project holds files, and nothing was written" in done.stderr
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["notes"]
    assert run("init", "project", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "project" / "notes").read_text() == "mine"
    assert (tmp_path / "project" / "Dockerfile").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """One sentence."""
    (tmp_path / "file").touch()
    for name in ("file", "file/project"):
        done = run("init", name, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_script_is_the_container_s() -> None:
    """There is one script that builds and pushes, in two places."""
    template = ROOT / "sagemaker_inference_lite" / "project" / "templates" / "common" / "build_and_push.sh"
    assert template.read_bytes() == (ROOT / "container" / "build_and_push.sh").read_bytes()
