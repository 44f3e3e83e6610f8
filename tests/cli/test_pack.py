# SPDX-License-Identifier: Apache-2.0
"""``pack`` and ``unpack``: what is packed, what is refused with its mend, and how that looks."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from commands import Running, run

PROGRAM = "def model_fn(model_dir):\n    return len\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with a program that makes the model."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(PROGRAM)
    return tmp_path / "model"


def refused(model: Path, *arguments: str) -> str:
    """What stderr says of a model that is not packed; there must be no archive."""
    done = run("pack", str(model), "-o", str(model.parent / "a.tar.gz"), *arguments)
    assert done.returncode == 1
    assert not (model.parent / "a.tar.gz").exists()
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_model_is_packed_and_unpacked(model: Path, tmp_path: Path) -> None:
    """What is packed is listed with its size, and comes out of the archive again; equal files give equal bytes."""
    (model / "weights.bin").write_bytes(os.urandom(5000))
    (model / "code" / "__pycache__").mkdir()
    done = run("pack", "model", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = done.stdout.splitlines()
    assert listed[:3] == [
        "  5.0 kB  weights.bin",
        f"    {len(PROGRAM)} B  code/inference.py",
        "left out: code/__pycache__",
    ]
    assert listed[3].startswith("model.tar.gz: ")
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert tar.getnames() == ["code", "code/inference.py", "weights.bin"]
    first = (tmp_path / "model.tar.gz").read_bytes()
    assert run("pack", "model", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "model.tar.gz").read_bytes() == first
    unpacked = run("unpack", "model.tar.gz", "-C", "out", cwd=tmp_path)
    assert unpacked.stdout.splitlines() == ["out/code/inference.py", "out/weights.bin"]
    assert (tmp_path / "out" / "weights.bin").read_bytes() == (model / "weights.bin").read_bytes()
    assert not list(model.rglob("*.pyc"))


def test_a_file_alone(tmp_path: Path) -> None:
    """A model's file needs no directory; what is no model's is refused."""
    (tmp_path / "wine.joblib").write_bytes(b"x")
    assert run("pack", "wine.joblib", cwd=tmp_path).returncode == 0
    (tmp_path / "notes.txt").write_text("x")
    done = run("pack", "notes.txt", "-o", "b.tar.gz", cwd=tmp_path)
    assert done.returncode == 1
    assert "notes.txt is not a model file that can be served without code" in done.stderr


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("def model_fn(:\n", "SyntaxError: invalid syntax (inference.py, line 1)"),
        ("def predict_fn(data): pass\n", "expected a function predict_fn(data, model)"),
        ("def transform_fn(*_): pass\ndef output_fn(*_): pass\n", "would never be called"),
        ("open('/nowhere')\n", "FileNotFoundError"),
        ("import os\nos._exit(3)\n", "ended the process with status 3 while it was imported"),
        ("import time\ntime.sleep(60)\n", "was not imported within 1 seconds"),
        ("def predict_fn(data, model): pass\n", "There is no model to load: code/inference.py defines no model_fn"),
    ],
    ids="syntax signature idle raises exits hangs nothing".split(),
)
def test_a_program_that_will_not_work(model: Path, program: str, said: str) -> None:
    """It is refused with what is wrong and where."""
    (model / "code" / "inference.py").write_text(program)
    assert said in refused(model, "--import-timeout", "1")


def test_without_an_import(model: Path) -> None:
    """--no-import runs nothing of the model's, and sees a syntax error all the same."""
    (model / "code" / "inference.py").write_text("open('ran', 'w')\ndef model_fn(:\n")
    assert "SyntaxError" in refused(model, "--no-import")
    (model / "code" / "inference.py").write_text("open('ran', 'w')\n")
    assert run("pack", str(model), "--no-import", "--dry-run").returncode == 0
    assert not (model / "ran").exists()


def test_all_that_is_wrong_is_said_at_once(model: Path) -> None:
    """Links, archives within, and the program: each its line."""
    (model / "link").symlink_to("/nowhere")
    (model / "model.tar.gz").write_bytes(b"x")
    (model / "code" / "inference.py").write_text("def model_fn(:\n")
    said = refused(model)
    for each in ("link is a link to /nowhere", "model.tar.gz is an archive within the archive", "SyntaxError"):
        assert each in said


def test_a_package_that_the_image_may_have(model: Path) -> None:
    """A package that is not installed here is a warning, with the line for requirements.txt."""
    (model / "code" / "inference.py").write_text("import skimage\n" + PROGRAM)
    done = run("pack", str(model), "--dry-run")
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "Add a line scikit-image to" in done.stderr


def test_a_handler_of_the_image_s_own(model: Path) -> None:
    """It may load what it likes."""
    (model / "code" / "inference.py").unlink()
    (model / "weights.bin").write_bytes(b"x")
    assert "There is no model to load" in refused(model)
    assert run("pack", str(model), "--handler", "mine:handle", "--dry-run").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model", "-o", "model/a.tar.gz"], "would be packed into itself"),
        (["model", "-o", "model"], "is a directory"),
        (["model", "-o", "there.tar.gz"], "is there already"),
        (["nowhere"], "does not exist"),
        (["model", "--level", "11"], "11"),
    ],
    ids="itself directory there nowhere level".split(),
)
def test_arguments_that_cannot_be_used(model: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    """Status 2, and one message."""
    (tmp_path / "there.tar.gz").touch()
    done = run("pack", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[0]


def test_for_programs(model: Path, tmp_path: Path) -> None:
    """--json prints one object, whatever is wrong."""
    found = json.loads(run("pack", str(model), "--json", cwd=tmp_path).stdout)
    assert found["archive"] == "model.tar.gz"
    assert found["bytes"] == (tmp_path / "model.tar.gz").stat().st_size
    (model / "link").symlink_to("/nowhere")
    done = run("pack", str(model), "--json", "--force", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["findings"][0]["level"]) == (1, "error")
    listed = json.loads(run("unpack", "model.tar.gz", "-C", "out", "--json", cwd=tmp_path).stdout)
    assert listed == {"directory": "out", "files": [{"name": "code/inference.py", "bytes": len(PROGRAM)}]}


def test_unpack_does_not_overwrite(model: Path, tmp_path: Path) -> None:
    """A directory with files is left alone unless --force says otherwise; a broken archive changes nothing then."""
    assert run("pack", "model", cwd=tmp_path).returncode == 0
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    done = run("unpack", "model.tar.gz", "-C", "out", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert run("unpack", "model.tar.gz", "-C", "out", "--force", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["code", "mine"]
    os.truncate(tmp_path / "model.tar.gz", 100)
    assert run("unpack", "model.tar.gz", "-C", "out", "--force", cwd=tmp_path).returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.tar.gz", "out"]


def test_at_a_terminal(model: Path, tmp_path: Path) -> None:
    """Large files show a bar, mistakes are red; neither is in a pipe, or where NO_COLOR is set."""

    def shown(**variables: str) -> tuple[int, bytes]:
        command = Running(["pack", "model", "--level", "1", "--force"], tmp_path, terminal=True, **variables)
        try:
            return command.end(), command.seen
        finally:
            command.kill()

    with open(model / "weights.bin", "wb") as file:
        file.truncate(60_000_000)
    status, seen = shown()
    assert (status, b"packing" in seen) == (0, True)
    (model / "link").symlink_to("/nowhere")
    status, seen = shown()
    assert (status, b"\x1b[31m" in seen) == (1, True)
    assert b"\x1b[" not in shown(NO_COLOR="1")[1]
    assert "\x1b[" not in run("pack", "model", "--force", cwd=tmp_path).stderr
