# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: models are loaded anew by new workers, which take over from the others once all of them have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import psutil
import pytest
import requests
from running_server import Server, eventually, free_port, serving

PROGRAM = """
import pathlib, time
def model_fn(model_dir):
    return pathlib.Path(model_dir, "answer").read_text()
def transform_fn(model, body, content_type, accept):
    return "{version} " + model, "text/plain"
"""
DEFAULT = "sagemaker_inference_lite.default_handler_service"


def write(model_dir: Path, version: str, answer: str = "a") -> None:
    """A model whose answer is the version of its program and what a file of its holds."""
    (model_dir / "code").mkdir(parents=True, exist_ok=True)
    (model_dir / "answer").write_text(answer)
    # As editors do it: the file is another one afterwards.
    new = model_dir / "code" / "inference.py.new"
    new.write_text(PROGRAM.replace("{version}", version))
    new.replace(model_dir / "code" / "inference.py")


def reload(server: Server, outcome: str = "reloaded in") -> None:
    """Asks for a reload and waits for what comes of it."""
    before = server.output().count(outcome)
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: server.output().count(outcome) > before, 30)


def ask(server: Server, model: str | None = None) -> str:
    """The answer to a request, which must be answered well."""
    answer = server.invoke("x", model)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def single(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one model."""
    base_dir = tmp_path_factory.mktemp("base")
    write(base_dir / "model", "0")
    variables = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(request.param), "PYTHONDONTWRITEBYTECODE": "1"}
    with serving(base_dir, DEFAULT, **variables) as server:
        yield server


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Server]:
    """A server of several models, one of which is loaded."""
    write(tmp_path / "models" / "m", "0")
    with serving(tmp_path, DEFAULT, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_STARTUP_TIMEOUT="5") as server:
        body = {"model_name": "m", "url": str(tmp_path / "models" / "m")}
        assert requests.post(f"{server.url}/models", json=body, timeout=30).status_code == 200
        yield server


def test_code_and_files(single: Server) -> None:
    """What has changed of either is served, from the moment that the log says so."""
    model_dir = single.base_dir / "model"
    for version, answer in (("1", "a"), ("2", "a"), ("2", "b")):
        write(model_dir, version, answer)
        reload(single)
        assert {ask(single) for _ in range(10)} == {f"{version} {answer}"}


def test_a_mistake_changes_nothing(single: Server) -> None:
    """The log says what is wrong, and what was served before goes on; mended, it is served."""
    write(single.base_dir / "model", "3")
    reload(single)
    (single.base_dir / "model" / "code" / "inference.py").write_text("def model_fn(:\n")
    reload(single, "is not reloaded, and the workers of before go on")
    assert "SyntaxError: invalid syntax (inference.py, line 1)" in single.output()
    assert {ask(single) for _ in range(10)} == {"3 a"}
    assert single.ping() == 200
    write(single.base_dir / "model", "4")
    reload(single)
    assert ask(single) == "4 a"


def test_nobody_waits_in_vain(single: Server) -> None:
    """Clients that ask all the time get no error, and never an old answer after a new one was announced."""
    write(single.base_dir / "model", "10")
    reload(single)
    stop, errors, announced = threading.Event(), list[str](), ["10"]

    def ask_on() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                least = int(announced[0])
                answer = session.post(f"{single.url}/invocations", data=b"x", timeout=30)
                if answer.status_code != 200 or int(answer.text.split()[0]) < least:
                    errors.append(f"{answer.status_code} {answer.text} after {least}")

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(11, 21):
        write(single.base_dir / "model", str(version))
        reload(single)
        # The zygote's line comes a moment before the front end has the last worker's answer.
        eventually(lambda version=version: ask(single) == f"{version} a")  # type: ignore[misc]
        time.sleep(0.05)
        announced[0] = str(version)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_nothing_is_left_over(single: Server) -> None:
    """After many reloads, some of which have failed, there are as many processes and open files as before."""

    def held() -> tuple[int, int, int]:
        roles = single.processes()
        java, zygote = roles["java"][0], roles["zygote"][0]
        return len(roles["worker"]), java.num_fds(), zygote.num_fds()

    write(single.base_dir / "model", "30")
    reload(single)
    eventually(lambda: len(single.processes()["worker"]) == len(_workers(single)))
    before = held()
    for number in range(10):
        (single.base_dir / "model" / "code" / "inference.py").write_text("raise OSError('broken')\n")
        reload(single, "is not reloaded, and the workers of before go on")
        write(single.base_dir / "model", str(31 + number))
        reload(single)
    assert ask(single) == "40 a"
    assert eventually(lambda: held() == before), (held(), before)


def _workers(server: Server) -> list[psutil.Process]:
    wanted = int(psutil.Process(server.process.pid).environ()["SAGEMAKER_MODEL_SERVER_WORKERS"])
    return server.processes()["worker"][:wanted]


def test_a_storm(single: Server) -> None:
    """However often it is asked for, the last state is served in the end."""
    for version in range(50, 60):
        write(single.base_dir / "model", str(version))
        single.process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    assert eventually(lambda: ask(single) == "59 a", 30)


def test_one_of_several(several: Server, tmp_path: Path) -> None:
    """Models of a multi-model server are loaded anew too; one whose reload fails stays, and is listed."""
    write(tmp_path / "models" / "m", "1")
    reload(several)
    assert ask(several, "m") == "1 a"
    (tmp_path / "models" / "m" / "code" / "inference.py").write_text("import nothing_of_that_name\n")
    reload(several, "is not reloaded, and the workers of before go on")
    assert several.listed() == ["m"]
    assert ask(several, "m") == "1 a"


def test_an_unload_wins(several: Server, tmp_path: Path) -> None:
    """DELETE while new workers load, and hang: it is answered, and the name is free."""
    (tmp_path / "models" / "m" / "code" / "inference.py").write_text("import time\ntime.sleep(60)\n")
    several.process.send_signal(signal.SIGHUP)
    eventually(lambda: "model 'm': reloading from" in several.output())
    assert several.unload("m").status_code == 200
    assert several.listed() == []
    write(tmp_path / "models" / "m", "2")
    body = {"model_name": "m", "url": str(tmp_path / "models" / "m")}
    assert requests.post(f"{several.url}/models", json=body, timeout=30).status_code == 200
    assert ask(several, "m") == "2 a"


def test_a_load_that_takes_too_long(several: Server, tmp_path: Path) -> None:
    """The limit of a load holds for a reload, and the model goes on."""
    (tmp_path / "models" / "m" / "code" / "inference.py").write_text("import time\ntime.sleep(60)\n")
    reload(several, "is not reloaded, and the workers of before go on")
    assert ask(several, "m") == "0 a"


def test_during_the_start_and_then_a_stop(start: Callable[..., Server], tmp_path: Path) -> None:
    """A signal that comes too early ends nothing; one that is followed by a stop neither delays it nor fails it."""
    write(tmp_path / "model", "0")
    server = start(DEFAULT)
    eventually(lambda: "starting on port" in server.output())
    server.process.send_signal(signal.SIGHUP)
    server.ready()
    server.process.send_signal(signal.SIGHUP)
    assert server.stop() == 0, server.output()


HANDLER_PROGRAM = """
import os, sys
from sagemaker_inference_lite import model_server

def observe(event):
    print("EVENT", type(event).__name__, *event, flush=True)

model_server.serve(sys.argv[1], observe, reloads_handler=True)
"""


def test_the_handler(tmp_path: Path) -> None:
    """Where it is asked for, the handler service is taken in anew as well, and observers are told."""
    handler = tmp_path / "handler.py"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "file").touch()

    def write_handler(answer: str) -> None:
        handler.write_text(f"def handle(data, context):\n    return data and ['{answer}'] * len(data)\n")

    write_handler("1")
    port = free_port()
    variables = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(port)}
    variables.update(PYTHONDONTWRITEBYTECODE="1", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", HANDLER_PROGRAM, f"{handler}:handle"],
            env={**os.environ, **variables},
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: "EVENT Ready" in log.read_text(), 30)
        url = f"http://127.0.0.1:{port}/invocations"
        assert requests.post(url, data=b"x", timeout=20).text == "1"
        write_handler("2")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "EVENT Reloaded model" in log.read_text(), 30)
        assert eventually(lambda: requests.post(url, data=b"x", timeout=20).text == "2")
        handler.write_text("def handle(:\n")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "EVENT ReloadFailed model" in log.read_text(), 30)
        assert requests.post(url, data=b"x", timeout=20).text == "2"
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()


def test_a_shared_model_is_loaded_anew(start: Callable[..., Server], tmp_path: Path) -> None:
    """SAGEMAKER_MODEL_SERVER_SHARE_MODEL: what is shared is of before, so new workers load by themselves."""
    write(tmp_path / "model", "0")
    server = start(DEFAULT, SAGEMAKER_MODEL_SERVER_SHARE_MODEL="true", SAGEMAKER_MODEL_SERVER_WORKERS="2").ready()
    write(tmp_path / "model", "1", "b")
    reload(server)
    assert eventually(lambda: {ask(server) for _ in range(10)} == {"1 b"})
    assert server.stop() == 0
