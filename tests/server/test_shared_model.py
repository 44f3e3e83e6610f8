# SPDX-License-Identifier: Apache-2.0
"""SAGEMAKER_MODEL_SERVER_SHARE_MODEL: one load for all workers, and what happens where a model is not fit for it."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest
from running_server import Server, all_gone, eventually, serving

MIB = 1 << 20
SHARED = {"SAGEMAKER_MODEL_SERVER_SHARE_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2", "OMP_NUM_THREADS": "1"}

# Notes each load in a file, and answers with who has loaded the model and who answers.
PROGRAM = """
import os, time
import numpy as np

def model_fn(model_dir):
    with open(os.path.join(model_dir, "loads"), "a") as file:
        file.write(f"{os.getpid()}\\n")
    <load>
    return {"loader": os.getpid(), "weights": np.ones(<mib> << 17), "asked": 0}

def predict_fn(data, model):
    if data == "exit":
        os._exit(1)
    time.sleep(0.2)
    model["asked"] += 1
    return {"loader": model["loader"], "worker": os.getpid(), "asked": model["asked"]}
"""


def place(base_dir: Path, load: str = "", mib: int = 1) -> Path:
    """Put the model where a server looks for it; the file that notes its loads."""
    code = base_dir / "model" / "code"
    code.mkdir(parents=True)
    text = textwrap.dedent(PROGRAM).replace("<load>", load or "pass").replace("<mib>", str(mib))
    (code / "inference.py").write_text(text)
    return base_dir / "model" / "loads"


def ask(server: Server, data: Any = "ask") -> Any:
    """The program's answer."""
    answer = server.invoke(json.dumps(data), headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask_both(server: Server) -> list[Any]:
    """Answers of two workers, asked at the same time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: ask(server), range(2)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose two workers share a model of 64 MiB."""
    base_dir = tmp_path_factory.mktemp("base")
    place(base_dir, mib=64)
    with serving(base_dir, handler=None, **SHARED) as server:
        assert eventually(lambda: len(of_model(server)) == 3)
        yield server


def of_model(server: Server) -> list[psutil.Process]:
    """The processes below the zygote: the model template, and the workers."""
    roles = server.processes()
    return [*roles["worker"], *roles["template"]]


def test_the_model_is_loaded_once(server: Server) -> None:
    """Both workers answer from what another process has loaded, and what one changes the other does not see."""
    first, second = ask_both(server)
    assert first["worker"] != second["worker"]
    assert first["loader"] == second["loader"] not in (first["worker"], second["worker"])
    assert first["asked"] == second["asked"]
    assert "for all workers to share" in server.output()


def test_its_memory_is_there_once(server: Server) -> None:
    """Together the processes take less than two models' memory."""
    ask_both(server)
    total = sum(process.memory_full_info().pss for process in of_model(server))
    assert 64 * MIB < total < 2 * 64 * MIB


def test_a_worker_that_died_is_replaced_without_a_load(server: Server) -> None:
    """The successor has the model that was loaded at the start."""
    before = ask(server)
    answer = server.invoke('"exit"', headers={"Content-Type": "application/json"})
    assert answer.status_code == 500
    after = ask_both(server)
    assert {each["loader"] for each in after} == {before["loader"]}
    assert len((server.base_dir / "model" / "loads").read_text().split()) == 1


def test_a_template_that_is_killed_is_replaced_when_it_is_needed(start: Callable[..., Server], tmp_path: Path) -> None:
    """Workers go on without it; the next worker that is needed has it loaded again, and nothing outlives the server."""
    loads = place(tmp_path)
    server = start(handler=None, **SHARED).ready()
    first = ask(server)
    (template,) = [each for each in of_model(server) if each.pid == first["loader"]]
    template.send_signal(signal.SIGKILL)
    assert eventually(lambda: all_gone([template]))
    assert ask(server)["loader"] == first["loader"]
    for _ in range(2):
        server.invoke('"exit"', headers={"Content-Type": "application/json"})
    assert eventually(lambda: len(loads.read_text().split()) == 2)
    assert str(ask(server)["loader"]) in loads.read_text().split()
    processes = server.descendants()
    assert server.stop() == 0
    assert eventually(lambda: all_gone(processes))


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ("import threading; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "starts threads"),
        ("os.open(os.environ['A_GPU'], os.O_RDONLY)", "initialises CUDA"),
        ("os.getppid() if len(open(model_dir + '/loads').readlines()) > 1 else os._exit(3)", "could not be loaded"),
        ("time.sleep(0 if len(open(model_dir + '/loads').readlines()) > 1 else 60)", "takes longer than 3 seconds"),
    ],
)
def test_a_model_that_cannot_be_shared_is_loaded_by_each(
    start: Callable[..., Server], tmp_path: Path, load: str, reason: str
) -> None:
    """Threads, CUDA, and a load that ends or hangs: the log says so, and each worker loads the model for itself."""
    loads = place(tmp_path, load)
    if "A_GPU" in load and not os.path.exists("/dev/nvidia-uvm-test"):
        if os.geteuid() != 0:
            pytest.skip("only root can make the file that stands in for a GPU's")
        Path("/dev/nvidia-uvm-test").touch()
    environ = {**SHARED, "SAGEMAKER_STARTUP_TIMEOUT": "3", "A_GPU": "/dev/nvidia-uvm-test"}
    try:
        server = start(handler=None, **environ).ready()
        assert eventually(lambda: len(loads.read_text().split()) == 3)
        assert eventually(lambda: len(of_model(server)) == 2)
        answers = ask_both(server)
    finally:
        Path("/dev/nvidia-uvm-test").unlink(missing_ok=True)
    assert all(each["loader"] == each["worker"] for each in answers)
    assert "the model is not shared, and each worker loads it by itself: " in server.output()
    assert reason in server.output()
    assert server.stop() == 0


def test_a_model_that_fails_ends_the_server_as_ever(start: Callable[..., Server], tmp_path: Path) -> None:
    """With sharing or without, three tries of the workers' own decide."""
    place(tmp_path, "raise ValueError('broken')")
    begun = time.monotonic()
    server = start(handler=None, **SHARED)
    assert server.ended() != 0
    assert "ModelLoadError: The model could not be loaded in 3 tries: " in server.output()
    assert "ValueError: broken" in server.output()
    assert time.monotonic() - begun < 30
