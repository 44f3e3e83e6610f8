# SPDX-License-Identifier: Apache-2.0
"""``doctor``: each finding with its mend."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from commands import run
from running_server import free_port

from sagemaker_inference_lite.doctor.dockerfile import inspect_dockerfile, instructions
from sagemaker_inference_lite.inspection.findings import Level

GOOD = """
FROM python:3.11 AS build
ENTRYPOINT of-another-stage
FROM python:3.11-slim
# a comment
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \\
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"
RUN pip install 'sagemaker_inference_lite[jre]' && sagemaker-inference-lite prepare
ENTRYPOINT ["python3", "/entry.py"]
CMD ["serve"]
"""


def diagnosed(*arguments: str, **environ: str) -> tuple[int, dict[str, list[str]]]:
    """The exit status, and what was found by level."""
    variables = {"SAGEMAKER_BIND_TO_PORT": str(free_port()), "SAGEMAKER_MULTI_MODEL": "true", **environ}
    done = run("doctor", "--json", *arguments, **variables)  # type: ignore[arg-type] # none of them is cwd
    assert "Traceback" not in done.stderr
    found: dict[str, list[str]] = {"ok": [], "warning": [], "error": []}
    for each in json.loads(done.stdout):
        found[each["level"]].append(f"{each['what']} {each['mend']}")
    return done.returncode, found


def test_a_machine_that_is_well() -> None:
    """It names Python, Java, Multi Model Server, the port, the sizes and what is set."""
    status, found = diagnosed(SAGEMAKER_MODEL_SERVER_WORKERS="3")
    assert (status, found["error"]) == (0, [])
    said = "\n".join(found["ok"])
    for each in ("Python 3.", "Java ", "Multi Model Server", "is free", "SAGEMAKER_MODEL_SERVER_WORKERS=3", "CPUs: "):
        assert each in said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"JAVA_HOME": "/nowhere"}, "no program bin/java in it"),
        ({"SAGEMAKER_BATCH": "x"}, "SAGEMAKER_BATCH='x': expected"),
        ({"SAGEMAKER_HANDLER": "/nowhere/handler.py:handle"}, "there is no file /nowhere/handler.py"),
        ({"SAGEMAKER_MULTI_MODEL": "", "SAGEMAKER_BASE_DIR": "/usr"}, "The model directory /usr/model does not exist"),
    ],
    ids="java setting handler model".split(),
)
def test_what_is_wrong_with_a_machine(environ: dict[str, str], said: str) -> None:
    """It is an error, and the status is 1."""
    status, found = diagnosed(**environ)
    assert status == 1
    assert said in "\n".join(found["error"])


def test_a_port_in_use() -> None:
    """It says who listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if port > 32766:
            server.close()
            server = socket.create_server(("127.0.0.1", free_port()))
            port = server.getsockname()[1]
        with server:
            status, found = diagnosed(SAGEMAKER_BIND_TO_PORT=str(port))
    assert status == 1
    assert f"Port {port} is in use by python" in found["error"][0]
    assert f"(pid {os.getpid()})" in found["error"][0]


def test_misspelt_variables() -> None:
    """They are warned of; nothing else is wrong."""
    status, found = diagnosed(SAGEMAKER_MULTIMODEL="true")
    assert status == 0
    assert "did you mean SAGEMAKER_MULTI_MODEL?" in found["warning"][0]


def test_a_handler_s_function(tmp_path: Path) -> None:
    """What the file does not define is warned of, what is no Python is an error; the file is not run."""
    file = tmp_path / "handler.py"
    file.write_text("raise RuntimeError\ndef handle(data, context): pass\n")
    assert diagnosed(SAGEMAKER_HANDLER=f"{file}:handle")[1]["warning"] == []
    assert "defines no 'other'; it defines handle" in diagnosed(SAGEMAKER_HANDLER=f"{file}:other")[1]["warning"][0]
    file.write_text("def handle(:\n")
    assert diagnosed(SAGEMAKER_HANDLER=f"{file}:handle")[0] == 1


def dockerfile(tmp_path: Path, text: str) -> dict[str, list[str]]:
    """What is said of a Dockerfile."""
    (tmp_path / "Dockerfile").write_text(text)
    found: dict[str, list[str]] = {level.value: [] for level in Level}
    for each in inspect_dockerfile(tmp_path / "Dockerfile"):
        found[each.level.value].append(f"{each.what} {each.mend}")
    return found


def test_a_dockerfile_that_is_well(tmp_path: Path) -> None:
    """Labels over several lines, and the last stage's entry point."""
    found = dockerfile(tmp_path, GOOD)
    assert found["error"] == found["warning"] == []
    assert [each.name for each in instructions(GOOD)] == ["FROM", "LABEL", "RUN", "ENTRYPOINT", "CMD"]


@pytest.mark.parametrize(
    ("old", "new", "level", "said"),
    [
        ('ENTRYPOINT ["python3", "/entry.py"]', "ENTRYPOINT python3 /entry.py", "error", "run by a shell"),
        ('ENTRYPOINT ["python3", "/entry.py"]', "", "error", "No ENTRYPOINT"),
        ("multi-models=true", "multi-models=false", "warning", "No label multi-models"),
        ("[jre]", "", "warning", "installs no Java"),
        ('CMD ["serve"]', 'CMD ["bash"]', "warning", "SageMaker says serve in its place"),
        ("FROM", "F", "error", "has no FROM"),
    ],
    ids="shell none label java command from".split(),
)
def test_what_is_wrong_with_a_dockerfile(tmp_path: Path, old: str, new: str, level: str, said: str) -> None:
    """It is said, with the line to write."""
    assert any(said in each for each in dockerfile(tmp_path, GOOD.replace(old, new))[level])


def test_projects_and_models(tmp_path: Path) -> None:
    """A project that init makes is well; a model is looked at as pack does it, packed or not."""
    assert run("init", "project", cwd=tmp_path).returncode == 0
    assert run("doctor", "project", cwd=tmp_path).returncode == 0
    model = tmp_path / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "inference.py").write_text("def model_fn(model_dir): pass\n")
    assert run("pack", "model", cwd=tmp_path).returncode == 0
    for target in ("model", "model.tar.gz"):
        done = run("doctor", target, cwd=tmp_path)
        assert (done.returncode, done.stdout.split()[0]) == (0, "ok")
    (model / "code" / "inference.py").write_text("def model_fn(:\n")
    done = run("doctor", "model", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (1, "error")
    os.truncate(tmp_path / "model.tar.gz", 50)
    assert run("doctor", "model.tar.gz", cwd=tmp_path).returncode == 1


def test_an_image_without_an_engine() -> None:
    """One sentence, with what to do."""
    done = run("doctor", "no-such-image:1", DOCKER_HOST="tcp://127.0.0.1:1")
    assert done.returncode == 1
    assert "no Docker engine answers that could know an image of that name" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_findings_of_an_image() -> None:
    """Labels, entry point and platform, as an engine describes them."""
    from sagemaker_inference_lite.doctor.image import _findings

    attributes: dict[str, Any] = {
        "Architecture": "s390x",
        "Os": "linux",
        "Config": {
            "Labels": {"com.amazonaws.sagemaker.capabilities.multi-models": "true"},
            "Entrypoint": ["/bin/sh", "-c", "x"],
        },
    }
    found = [(each.level, each.what) for each in _findings(attributes)]
    assert any(level is Level.ERROR and "linux/s390x" in what for level, what in found)
    assert any(level is Level.ERROR and "run by a shell" in what for level, what in found)
    assert any(level is Level.WARNING and "accept-bind-to-port" in what for level, what in found)
