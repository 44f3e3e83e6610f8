# SPDX-License-Identifier: Apache-2.0
"""What a handler forks never speaks for the worker, whoever makes it and however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import psutil
import pytest
from running_server import HANDLER, Server, all_gone, eventually, serving

ENDS = {"exits": "7", "raises": "1", "returns": "0", "counts_sockets": "0"}

# A model's own program, in which the child leaves the default handler service in the same ways.
PROGRAM = """
import os, sys

def model_fn(model_dir):
    return "model"

def input_fn(body, content_type):
    return body.decode()

def predict_fn(data, model):
    pid = os.fork()
    if pid == 0:
        if data == "exits":
            sys.exit(7)
        if data == "raises":
            raise ValueError("of the child")
        return "the child's answer"
    return f"{os.getpid()} {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"

def output_fn(prediction, accept):
    return prediction, "text/plain"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A single-model server with one worker, whose next request tells what became of it."""
    base_dir = tmp_path_factory.mktemp("base")
    (base_dir / "model").mkdir()
    (base_dir / "model" / "on_load").write_text("echo")
    with serving(base_dir, HANDLER, SAGEMAKER_MODEL_SERVER_WORKERS="1") as server:
        yield server


def assert_answered_by_the_worker(server: Server, command: str, status: str) -> None:
    """The request is answered by the worker, with that end of the child; and so is the next one."""
    worker = server.invoke("pid").text
    answer = server.invoke(command)
    assert (answer.status_code, answer.text) == (200, f"{worker} {status}")
    assert [server.invoke(f"echo {number}").text for number in range(3)] == ["0", "1", "2"]
    assert server.invoke("pid").text == worker


@pytest.mark.parametrize("command", [*ENDS, *(f"natively {end}" for end in ("exits", "raises", "returns"))])
def test_a_child_ends_where_its_handler_does(server: Server, command: str) -> None:
    """The parent is answered with 200, and its next request is not answered with the child's (gunicorn#2820)."""
    assert_answered_by_the_worker(server, f"fork {command}", ENDS[command.rpartition(" ")[2]])


def test_a_child_of_a_thread(server: Server) -> None:
    """A fork in a thread has that thread alone, and none of the worker's connections."""
    assert_answered_by_the_worker(server, "fork_in_thread counts_sockets", "0")
    assert_answered_by_the_worker(server, "fork_in_thread exits", "0")  # of a thread SystemExit is the normal end


def test_a_child_of_multiprocessing(server: Server) -> None:
    """What multiprocessing forks has none of the worker's connections."""
    assert_answered_by_the_worker(server, "multiprocess fork", "0")


@pytest.mark.parametrize("end", ["exits", "raises", "returns"])
def test_a_child_of_the_default_handler_service(tmp_path: Path, end: str) -> None:
    """A predict_fn that forks is answered by its parent, and the child is no failed request in the log."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(PROGRAM)
    with serving(tmp_path, None, SAGEMAKER_MODEL_SERVER_WORKERS="1") as server:
        answers = [server.invoke(end, headers={"Content-Type": "text/plain"}) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].text.split()[1] == ENDS[end]
        assert "failed with status" not in server.output()


@pytest.mark.parametrize("end", ["exits", "raises", "returns"])
def test_a_child_of_the_load(start_single: Callable[..., Server], end: str) -> None:
    """A load that forks is the parent's: one worker is there, and it answers."""
    server = start_single(f"fork {end}", SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    pids = {server.invoke("pid").text for _ in range(5)}
    assert len(pids) == 1
    assert len(server.processes()["worker"]) == 1
    assert server.stop() == 0


def test_a_child_made_at_exit(multi: Server, model: str) -> None:
    """What an exit function forks ends, and the unload with it."""
    assert multi.load(model).status_code == 200
    worker = psutil.Process(int(multi.invoke("fork_at_exit raises", model).text))
    assert multi.unload(model).status_code == 200
    assert eventually(lambda: all_gone([worker]))
    assert multi.load(model).status_code == 200
    assert multi.invoke("echo on", model).text == "on"
    multi.unload(model)


def test_a_child_made_at_import(start: Callable[..., Server], tmp_path: Path) -> None:
    """A handler that forks when it is imported gets one server, and its private directory stays."""
    handler = tmp_path / "forking.py"
    handler.write_text(
        "import os, sys\nif os.fork() == 0:\n    sys.exit(0)\nos.wait()\nif os.fork():\n    os.wait()\n"
        "def handle(data, context):\n    return None if data is None else ['answer'] * len(data)\n"
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").touch()
    server = start(str(handler)).ready()
    assert server.invoke().text == "answer"
    assert server.stop() == 0


def test_what_a_worker_holds(multi: Server, model: str) -> None:
    """A worker has its own connection and its own events, and nothing of the zygote's or of another's."""
    assert multi.load(f"{model}-other").status_code == 200
    assert multi.load(model).status_code == 200
    held = multi.invoke("sockets", model).json()
    assert held.count("socket") == 2
    assert set(held) <= {"socket", "pipe"}
    for name in (model, f"{model}-other"):
        multi.unload(name)
