# SPDX-License-Identifier: Apache-2.0
"""A model's own packages on the real server: installed, refused, failed, and gone with the model."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from packages import ask_for, make_sdist, make_wheel
from running_server import Server, all_gone, eventually, serving

Start = Callable[..., Server]

# Imports the package when it is imported itself, or when it loads a model.
AT_IMPORT = """
import shade

def handle(data, context):
    return [shade.VERSION for request in data or ()]
"""
AT_LOAD = """
import os

def handle(data, context):
    global shade
    if data is None:
        import shade
        return None
    if data[0]["body"] == b"die":
        os._exit(1)
    return [f"{shade.VERSION} {shade.__file__}" for request in data]
"""


def never_built(model_dir: Path) -> None:
    """A model whose package is never built: to build it starts a process that does not end."""
    begun = str(model_dir / "begun")
    build = f"import subprocess, pathlib; pathlib.Path({begun!r}).touch(); subprocess.run(['sleep', '600'])"
    make_sdist(ask_for(model_dir, "slow\n"), "slow", "1.0", build)


@pytest.fixture
def handler(tmp_path: Path) -> str:
    """A handler that cannot be imported without the model's package."""
    path = tmp_path / "handler.py"
    path.write_text(AT_IMPORT)
    return f"{path}:handle"


# -- One model ---------------------------------------------------------------------------------------------------------


def test_packages_come_before_the_handler(start: Start, tmp_path: Path, handler: str) -> None:
    """They are installed before any handler is imported, into the private directory, and are gone with it."""
    make_wheel(ask_for(tmp_path / "model", "shade\n"), "shade", "1.0")
    before = set((tmp_path / "model").rglob("*"))
    server = start(handler, SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    assert server.invoke().text == "1.0"
    assert "Successfully installed shade-1.0" in server.output()
    assert set((tmp_path / "model").rglob("*")) == before
    assert server.stop() == 0
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "cannot be installed: Could not find a version that satisfies the requirement nowhere"),
        ({"SAGEMAKER_INSTALL_REQUIREMENTS": "false"}, "SAGEMAKER_INSTALL_REQUIREMENTS=false forbids"),
    ],
    ids=["cannot", "may not"],
)
def test_a_failure_ends_the_start(
    start: Start, tmp_path: Path, handler: str, environ: dict[str, str], says: str
) -> None:
    """What cannot be installed, or may not be, ends the server with status 7, which names the file and the package."""
    ask_for(tmp_path / "model", "nowhere\n")
    server = start(handler, **environ)
    assert server.ended() == 7
    assert f"RequirementsError: {tmp_path / 'model' / 'code' / 'requirements.txt'} " in server.output()
    assert says in server.output()
    assert "starting on port" not in server.output()
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)], ids=["stopped", "killed"]
)
def test_the_end_of_the_server_is_that_of_pip(
    start: Start, tmp_path: Path, handler: str, number: signal.Signals, status: int
) -> None:
    """A server that is stopped, or killed, while it installs is gone at once, with all that pip has started."""
    never_built(tmp_path / "model")
    server = start(handler)
    assert eventually((tmp_path / "model" / "begun").exists)
    processes = server.descendants()
    assert len(processes) >= 3
    begun = time.monotonic()
    server.process.send_signal(number)
    assert server.ended() == status
    assert eventually(lambda: all_gone(processes), 2)
    assert eventually(lambda: list(server.temporary.iterdir()) == [], 2)
    assert time.monotonic() - begun < 2


def test_pip_has_a_limit(start: Start, tmp_path: Path, handler: str) -> None:
    """SAGEMAKER_STARTUP_TIMEOUT ends an installation that does not end, and all that it has started."""
    never_built(tmp_path / "model")
    server = start(handler, SAGEMAKER_STARTUP_TIMEOUT="4")
    assert eventually((tmp_path / "model" / "begun").exists)
    processes = server.descendants()
    assert server.ended() == 7
    assert "pip did not finish within 4 seconds (SAGEMAKER_STARTUP_TIMEOUT). It was at ./wheels/slow" in server.output()
    assert eventually(lambda: all_gone(processes), 2)
    assert list(server.temporary.iterdir()) == []


# -- Several models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for several models that may bring packages; it must stop cleanly after the tests."""
    base_dir = tmp_path_factory.mktemp("base")
    (base_dir / "handler.py").write_text(AT_LOAD)
    with serving(
        base_dir,
        f"{base_dir / 'handler.py'}:handle",
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_INSTALL_REQUIREMENTS="true",
        SAGEMAKER_STARTUP_TIMEOUT="6",
        SAGEMAKER_MODEL_SERVER_PRELOAD="retrying",
    ) as server:
        yield server


def model_dir(server: Server, name: str) -> Path:
    """Where Server.load() has a model."""
    return server.base_dir / "models" / name / "model"


def installed(server: Server) -> list[Path]:
    """The directories of models that have packages of their own."""
    return list(server.temporary.glob("*/packages/*"))


def test_two_versions_at_once(installing: Server) -> None:
    """Each model has the version that it asks for. It is gone once the model is, and the other's is not."""
    for name, version in (("one", "1.0"), ("two", "2.0")):
        make_wheel(ask_for(model_dir(installing, name), "shade\n"), "shade", version)
        assert installing.load(name).status_code == 200, installing.output()
    for name, version in (("one", "1.0"), ("two", "2.0")):
        answer, file = installing.invoke("", name).text.split()
        assert answer == version
        assert Path(file).is_file()
    assert installing.unload("one").status_code == 200
    assert eventually(lambda: len(installed(installing)) == 1)
    assert installing.invoke("", "two").text.startswith("2.0 ")
    assert installing.unload("two").status_code == 200
    assert eventually(lambda: installed(installing) == [])


def test_successors_install_nothing(installing: Server) -> None:
    """The workers of one model, and who follows one that died, share one installation."""
    make_wheel(ask_for(model_dir(installing, "many"), "shade\n"), "shade", "3.0")
    assert installing.load("many", initial_workers=2).status_code == 200
    assert installing.invoke("die", "many").status_code == 500
    assert {installing.invoke("", "many").text.split()[0] for _ in range(6)} == {"3.0"}
    assert installing.output().count("Successfully installed shade-3.0") == 1
    assert installing.unload("many").status_code == 200


def test_a_model_whose_packages_cannot_be_installed(installing: Server) -> None:
    """Its load fails and leaves nothing; the log names the package under the model's name. Mended, it loads."""
    wheels = ask_for(model_dir(installing, "mended"), "shade==4.0\n")
    assert installing.load("mended").status_code == 500
    path = model_dir(installing, "mended") / "code" / "requirements.txt"
    assert eventually(lambda: f"{path} cannot be installed: Could not find" in installing.output())
    assert "[mended] ERROR: No matching distribution found for shade==4.0" in installing.output()
    assert eventually(lambda: installed(installing) == [])
    make_wheel(wheels, "shade", "4.0")
    assert installing.load("mended").status_code == 200
    assert installing.unload("mended").status_code == 200


def test_an_installation_counts_as_loading(installing: Server) -> None:
    """SAGEMAKER_STARTUP_TIMEOUT ends a load that still installs, with all that it has started."""
    never_built(model_dir(installing, "slow"))
    assert installing.load("slow").status_code == 500
    assert eventually(lambda: "did not load within 6 seconds (SAGEMAKER_STARTUP_TIMEOUT)" in installing.output())
    assert eventually(lambda: installing.processes()["worker"] == [])
    assert eventually(lambda: installed(installing) == [])


def test_what_the_server_has_imported_already(installing: Server) -> None:
    """A model whose package the server has imported in another version gets the server's; the log says so."""
    wheels = ask_for(model_dir(installing, "late"), "shade\nretrying==99.0\n")
    make_wheel(wheels, "shade", "5.0")
    make_wheel(wheels, "retrying", "99.0")
    assert installing.load("late").status_code == 200
    assert eventually(lambda: "installs retrying, which the server has imported before" in installing.output())
    assert installing.unload("late").status_code == 200


def test_several_models_bring_nothing_unasked(start: Start, tmp_path: Path) -> None:
    """Without the setting a model that asks for packages is refused, and the log says which file and which setting."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    make_wheel(ask_for(model_dir(server, "m"), "shade\n"), "shade", "1.0")
    assert server.load("m").status_code == 500
    assert server.listed() == []
    path = model_dir(server, "m") / "code" / "requirements.txt"
    assert eventually(lambda: f": {path} asks for packages" in server.output())
    assert "unless SAGEMAKER_INSTALL_REQUIREMENTS=true allows it" in server.output()
    path.write_text("# nothing any more\n")
    assert server.load("m").status_code == 200
    assert server.stop() == 0
