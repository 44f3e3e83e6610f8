# SPDX-License-Identifier: Apache-2.0
"""Single-model mode on the real server: requests, and workers that fail them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import psutil
import pytest
import requests
from running_server import Server, all_gone, eventually


def test_the_model_answers_on_invocations(single: Server) -> None:
    """POST /invocations reaches the one model, without naming it."""
    assert single.invoke("echo hello").text == "hello"


ONE_MODEL = (
    "This server serves one model, which POST /invocations asks. SAGEMAKER_MULTI_MODEL=true makes it a server of "
    "several, which POST /models loads."
)


def test_nobody_outside_can_manage_models(single: Server) -> None:
    """The management interface is not on the port: a model can be neither listed, loaded nor removed from outside."""
    url = single.url + "/models"
    for answer in (
        requests.get(url),
        requests.post(url, json={"model_name": "x", "url": str(single.base_dir / "model")}),
        requests.delete(f"{url}/model"),
        single.invoke("echo", "x"),
        requests.get(f"{url}/a/b/c/d"),
    ):
        assert (answer.status_code, answer.json()["message"]) == (404, ONE_MODEL)
    assert single.invoke("echo on").text == "on"


def test_only_the_one_port_is_open(single: Server) -> None:
    """All that listens on TCP is the front end, on its port of loopback, as the test asked; the rest is private."""
    listening = [
        connection.laddr
        for process in [psutil.Process(single.process.pid), *single.descendants()]
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == {single.port}


def test_the_private_directory_is_private(single: Server) -> None:
    """Sockets and configuration lie in one directory that only this user can enter."""
    (directory,) = single.temporary.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700


def test_execution_parameters_answer_batch_transform(single: Server) -> None:
    """GET /execution-parameters: the three keys of the batch transform contract."""
    parameters = requests.get(single.url + "/execution-parameters").json()
    assert parameters == {"MaxConcurrentTransforms": 2, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 25}


def test_workers_draw_different_random_numbers(single: Server) -> None:
    """Numpy's global generator is not shared by fork: no two draws of any workers are the same."""
    draws = [single.invoke("random").text.split() for _ in range(30)]
    assert len({numpy_draw for _, numpy_draw in draws}) == 30
    assert len({python_draw for python_draw, _ in draws}) == 30


def test_handlers_run_in_the_models_directory(single: Server) -> None:
    """As with stock MMS, a handler's working directory is the model's."""
    assert single.invoke("cwd").text == str(single.base_dir / "model")


def test_threads_of_a_worker_are_its_share_of_the_cpus(single: Server) -> None:
    """OMP_NUM_THREADS is CPUs / workers where nobody set it."""
    assert single.invoke("threads").text == str(max(1, len(os.sched_getaffinity(0)) // 2))


FAILURES = {
    "raise": (500, "InternalError"),
    "exit 0": (500, "InternalError"),
    "memory": (507, "OutOfMemory"),
    "die SIGSEGV": (500, "WorkerDied"),
    "die SIGKILL": (507, "WorkerDied"),
    "vanish 0": (500, "WorkerDied"),
    "sleep 30": (504, "TimeLimitExceeded"),
}


@pytest.mark.parametrize("command", FAILURES)
def test_a_request_that_fails_is_one_request(single: Server, command: str) -> None:
    """Whatever happens to a worker, its request gets an answer that tells what, and the next requests are answered."""
    status, type_name = FAILURES[command]
    answer = single.invoke(command)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, type_name)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert [single.invoke("echo on").text for _ in range(4)] == ["on"] * 4
    assert eventually(lambda: len(single.processes()["worker"]) == 2)


def test_the_log_has_the_cause_under_the_answers_id(single: Server) -> None:
    """One record joins them: the error id of the answer, the request's id, the traceback."""
    answer = single.invoke("raise")
    error_id = answer.json()["error"]["id"]
    request_id = answer.headers["x-request-id"]
    assert eventually(lambda: f"request {request_id} failed with status 500, error id {error_id}" in single.output())
    assert "ValueError: the secret of the traceback" in single.output()


def test_a_worker_that_overran_its_limit_is_replaced_not_doubled(single: Server) -> None:
    """The late worker has ended before its successor begins: there are never more workers than asked for."""
    late = {int(single.invoke("pid").text) for _ in range(20)}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(single.invoke, ["sleep 30"] * 2))
    assert {answer.status_code for answer in answers} == {504}
    assert "SAGEMAKER_MODEL_SERVER_TIMEOUT" in answers[0].text
    fresh = {int(single.invoke("pid").text) for _ in range(20)}
    assert not late & fresh
    assert len(single.processes()["worker"]) == 2


def test_a_failing_worker_keeps_requests_of_others_waiting_only(single: Server) -> None:
    """Requests in the queue are answered by the successor of a worker that died: none is lost."""
    with ThreadPoolExecutor(16) as pool:
        commands = ["die SIGKILL" if number % 8 == 0 else f"echo {number}" for number in range(64)]
        answers = list(pool.map(single.invoke, commands))
    assert [answer.status_code for answer in answers] == [507 if number % 8 == 0 else 200 for number in range(64)]


def test_what_a_worker_started_ends_with_it(single: Server) -> None:
    """A process that a handler started does not outlive a worker that died."""
    grandchild = psutil.Process(int(single.invoke("grandchild 60").text))
    while not all_gone([grandchild]):
        assert single.invoke("die SIGKILL").status_code == 507


def test_a_large_body_passes(single: Server) -> None:
    """25 MB, the platform's limit, reach the handler whole."""
    assert single.invoke(b"size".ljust(25 << 20, b"\0")).text == str(25 << 20)


def test_bodies_that_do_not_fit_into_java_are_refused(start_single: Callable[..., Server]) -> None:
    """More large bodies at once than there is room for: 503 for those, answers for the others, and it lives on."""
    server = start_single(
        SAGEMAKER_MODEL_SERVER_VMARGS="-XX:MaxDirectMemorySize=128m", SAGEMAKER_MODEL_SERVER_WORKERS="1"
    ).ready()
    body = b"sleep 0.2".ljust(20 << 20, b"\0")
    for data in (lambda: body, lambda: iter([body])):
        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(server.invoke, data()) for _ in range(12)]
            statuses = [answer.result().status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert server.invoke("echo on").text == "on"
    assert server.stop() == 0


def test_a_worker_may_end_in_any_way(single: Server) -> None:
    """Signals without a name and exit statuses of all kinds are ends like any other: one request's."""
    for command in ("signal 40", "vanish 70", "vanish 71", "vanish 72", "vanish 73"):
        assert single.invoke(command).status_code == 500
    assert [single.invoke("echo on").text for _ in range(4)] == ["on"] * 4


def test_ping_says_503_until_the_model_is_loaded(start_single: Callable[..., Server]) -> None:
    """While the model loads /ping is 503, then 200: the platform sends no request to a model that is not there."""
    server = start_single("sleep 2", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    seen = set()
    while server.ping() != 200:
        seen.add(server.ping())
        assert server.process.poll() is None, server.output()
    assert 503 in seen
    assert server.invoke("echo now").text == "now"
    assert server.stop() == 0


def test_ping_says_503_again_while_no_worker_has_the_model(start_single: Callable[..., Server], tmp_path: Path) -> None:
    """After the only worker died, /ping is 503 until its successor has loaded the model."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    (tmp_path / "model" / "on_load").write_text("sleep 1")
    assert server.invoke("die SIGKILL").status_code == 507
    assert server.ping() == 503
    assert server.invoke("echo back").text == "back"
    assert server.ping() == 200
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("on_load", "cause"), [("raise", "the secret of the traceback"), ("die SIGKILL", "out of memory")]
)
def test_a_model_that_cannot_be_loaded_ends_the_server(
    start_single: Callable[..., Server], on_load: str, cause: str
) -> None:
    """A bounded number of tries, then a non-zero exit and a sentence; /ping was never 200."""
    server = start_single(on_load, SAGEMAKER_MODEL_SERVER_WORKERS="1")
    pings = set()
    while server.process.poll() is None:
        pings.add(server.ping())
    assert server.ended() == 6
    assert 200 not in pings
    assert "ModelLoadError: The model could not be loaded in 3 tries: " in server.output()
    assert cause in server.output()
    assert list(server.temporary.iterdir()) == []


def test_a_mistake_in_the_program_is_told_once(start: Callable[..., Server], tmp_path: Path) -> None:
    """What fails at each try is not tried again, its traceback is logged once, and the last line repeats the cause."""
    program = tmp_path / "model" / "code" / "inference.py"
    program.parent.mkdir(parents=True)
    program.write_text("def model_fn(:\n    pass\n")
    server = start(None, SAGEMAKER_MODEL_SERVER_WORKERS="2")
    assert server.ended() == 6
    lines = server.output().splitlines()
    assert sum("def model_fn(:" in line for line in lines) == 1
    assert not [line for line in lines if "sagemaker_inference_lite/" in line]
    assert lines[-1] == (
        f"ModelLoadError: The model could not be loaded: {program} cannot be imported: SyntaxError: invalid syntax "
        "(inference.py, line 1)"
    )
    assert len(lines) < 20


def test_a_model_fn_that_cannot_unpickle(start: Callable[..., Server], tmp_path: Path) -> None:
    """What to do is said wherever the error comes from: here from a model_fn of the author's own."""
    program = tmp_path / "model" / "code" / "inference.py"
    program.parent.mkdir(parents=True)
    program.write_text(
        "def model_fn(model_dir):\n    raise AttributeError(\"Can't get attribute 'X' on <module '__main__'>\")\n"
    )
    server = start(None)
    assert server.ended() == 6
    last = server.output().splitlines()[-1]
    assert f"({program}, line 2). It was pickled by a script that defined this itself" in last


def test_a_program_that_fails_to_import_a_package(start: Callable[..., Server], tmp_path: Path) -> None:
    """The last line has the line for requirements.txt."""
    program = tmp_path / "model" / "inference.py"
    program.parent.mkdir(parents=True)
    program.write_text("import skimage\n")
    server = start(None)
    assert server.ended() == 6
    assert "Add a line scikit-image to the model's code/requirements.txt" in server.output().splitlines()[-1]
