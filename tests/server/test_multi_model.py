# SPDX-License-Identifier: Apache-2.0
"""The multi-model API on the real server, as the platform uses it."""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
import requests
from running_server import Server, all_gone, eventually


def test_ping_is_200_with_no_model(multi: Server) -> None:
    """/ping is 200 and empty before any model is loaded: the platform asks before it loads the first."""
    answer = requests.get(multi.url + "/ping")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_model_is_loaded_listed_invoked_and_unloaded(multi: Server, model: str) -> None:
    """Load, list, describe, invoke, unload, and 404 afterwards; the url is the one that was sent."""
    assert multi.load(model).status_code == 200
    listed = requests.get(multi.url + "/models").json()["models"]
    assert {"modelName": model, "modelUrl": str(multi.base_dir / "models" / model / "model")} in listed
    assert requests.get(f"{multi.url}/models/{model}").status_code == 200
    assert multi.invoke("echo hello", model).text == "hello"
    assert multi.unload(model).status_code == 200
    assert model not in multi.listed()
    assert multi.invoke("echo", model).status_code == 404


def test_a_name_loaded_twice_is_409(multi: Server, model: str) -> None:
    """A second load under the same name is refused and the first model goes on."""
    assert multi.load(model).status_code == 200
    assert multi.load(model).status_code == 409
    assert multi.invoke("echo on", model).text == "on"
    multi.unload(model)


def test_unknown_models_are_404(multi: Server) -> None:
    """Invoking, describing and unloading what is not loaded, and loading what is not there, are 404."""
    assert multi.invoke("echo", "nobody").status_code == 404
    assert requests.get(multi.url + "/models/nobody").status_code == 404
    assert multi.unload("nobody").status_code == 404
    gone = requests.post(multi.url + "/models", json={"model_name": "gone", "url": "/nowhere/at/all"})
    assert gone.status_code == 404


@pytest.mark.parametrize(
    "body", ["{", "[]", "", '{"model_name": "x"}', '{"url": 3}', '{"model_name": "a/b", "url": "/"}']
)
def test_a_load_request_that_cannot_be_read_is_400(multi: Server, body: str) -> None:
    """A body that is no load request is the caller's mistake, and says why."""
    answer = requests.post(multi.url + "/models", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_names_are_checked_however_the_path_is_written(multi: Server) -> None:
    """A path in escapes is the same path: names that no other request could use are refused there too."""
    answer = requests.post(multi.url + "/%6Dodels", json={"model_name": "a/b", "url": str(multi.base_dir)})
    assert answer.status_code == 400


def test_a_client_that_gives_up_a_delete_does_not_stop_it(multi: Server, model: str) -> None:
    """DELETE waits for a request; its client goes away; the model is unloaded all the same."""
    multi.load(model)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(multi.invoke, "sleep 1.5", model)
        time.sleep(0.3)
        with pytest.raises(requests.Timeout):
            requests.delete(f"{multi.url}/models/{model}", timeout=0.3)
        assert slow.result().text == "slept"
    assert eventually(lambda: model not in multi.listed())


def test_models_are_not_downloaded(multi: Server, model: str) -> None:
    """An http url is refused: whoever reaches the port could otherwise run code of theirs."""
    url = multi.url + "/ping"
    answer = requests.post(multi.url + "/models", json={"model_name": model, "url": url})
    told = (
        f"Models are not downloaded from {url}: give the path of one that is in the container, or set "
        "SAGEMAKER_ALLOW_MODEL_DOWNLOAD=true."
    )
    assert (answer.status_code, answer.json()["message"]) == (400, told)
    assert model not in multi.listed()


LOAD_FAILED = r"The model (\S+) could not be loaded: (.+[.!?]) Error id ([0-9a-f]{32})\."

LOAD_FAILURES = {
    "vanish 73": (500, "exited with status 73 while it loaded the model"),
    "vanish 71": (500, "exited with status 71 while it loaded the model"),
    "signal 40": (500, "ended by signal 40 while it loaded the model"),
    "raise": (500, "ValueError: the secret of the traceback"),
    "memory": (507, "MemoryError: no room for the model"),
    "memory without a word": (507, "it ran out of memory: MemoryError"),
    "exit 3": (500, "SystemExit: 3"),
    "die SIGSEGV": (500, "ended by SIGSEGV while it loaded the model"),
    "die SIGKILL": (507, "most likely the container ran out of memory"),
    "sleep 60": (500, "did not load within 6 seconds (SAGEMAKER_STARTUP_TIMEOUT)"),
}


@pytest.mark.parametrize("on_load", LOAD_FAILURES)
def test_a_load_that_fails_leaves_nothing_and_can_be_repeated(multi: Server, model: str, on_load: str) -> None:
    """A failed load says why, with 507 for memory, and under which id the log has more; mended it loads."""
    status, cause = LOAD_FAILURES[on_load]
    answer = multi.load(model, on_load)
    assert (answer.status_code, set(answer.json())) == (status, {"code", "type", "message"})
    told = re.fullmatch(LOAD_FAILED, answer.json()["message"])
    assert told is not None, answer.text
    assert told[1] == model
    assert cause in told[2]
    assert model not in multi.listed()
    assert eventually(lambda: re.search(f"{model}.*, error id {told[3]}: .*{re.escape(cause)}", multi.output()))
    assert multi.load(model).status_code == 200
    assert multi.invoke("echo mended", model).text == "mended"
    assert multi.unload(model).status_code == 200


def test_workers_that_cannot_load_are_told_of_where_a_model_is_scaled(multi: Server, model: str) -> None:
    """PUT asks for a worker more, which cannot load: it is answered as a failed load is, and the model stays."""
    multi.load(model)
    (multi.base_dir / "models" / model / "model" / "on_load").write_text("raise")
    answer = requests.put(f"{multi.url}/models/{model}?min_worker=2&synchronous=true", timeout=20)
    message = f"The model {model} could not be scaled: ValueError: the secret of the traceback ("
    assert (answer.status_code, answer.json()["message"][: len(message)]) == (500, message)
    error_id = answer.json()["message"][:-1].rpartition(" Error id ")[2]
    assert f"error id {error_id}: ValueError: the secret of the traceback" in multi.output()
    assert multi.invoke("echo on", model).text == "on"
    assert multi.unload(model).status_code == 200


def test_a_failed_load_shows_its_traceback_where_that_is_wanted(start: Callable[..., Server]) -> None:
    """SAGEMAKER_EXPOSE_TRACEBACKS: the answer has it in a field of its own; the message is the same."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_EXPOSE_TRACEBACKS="true").ready()
    answer = server.load("m", "raise").json()
    assert re.fullmatch(LOAD_FAILED, answer["message"])
    assert answer["traceback"].startswith("Traceback (most recent call last)")
    assert answer["traceback"].endswith("ValueError: the secret of the traceback\n")
    assert set(server.load("m", "die SIGSEGV").json()) == {"code", "type", "message"}


def test_a_worker_that_cannot_load_again_refuses_until_it_can(multi: Server, model: str) -> None:
    """A worker died and its successor cannot load: requests are told so, and each is a new try; mended, it serves."""
    multi.load(model)
    on_load = multi.base_dir / "models" / model / "model" / "on_load"
    for broken, status in (("raise", 500), ("memory", 507)):
        on_load.write_text(broken)
        assert multi.invoke("vanish 1", model).status_code == 500
        for _ in range(3):
            answer = multi.invoke("echo", model)
            assert (answer.status_code, answer.json()["error"]["type"]) == (status, "ModelNotLoaded")
            assert "secret" not in answer.text
        on_load.write_text("echo")
        assert eventually(lambda: multi.invoke("echo on", model).text == "on")
    assert multi.unload(model).status_code == 200


def test_a_load_of_several_workers_that_fails_is_one_failure(multi: Server, model: str) -> None:
    """With several workers per model, memory that runs out is 507 too, and nothing of the model is left."""
    assert multi.load(model, "memory", initial_workers=3).status_code == 507
    assert model not in multi.listed()
    assert multi.load(model, "raise", initial_workers=3).status_code == 500
    assert model not in multi.listed()
    assert multi.load(model, "echo", initial_workers=3).status_code == 200
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: multi.invoke("sleep 0.5", model).text, range(3))) == ["slept"] * 3
    assert sum(worker["status"] == "READY" for worker in multi.described(model)["workers"]) == 3
    multi.unload(model)


def test_other_models_go_on_while_one_fails(multi: Server, model: str) -> None:
    """A model that cannot be loaded takes nothing from one that is."""
    multi.load(model)
    for number in range(5):
        assert multi.load(f"{model}-{number}", "memory").status_code == 507
        assert multi.invoke("echo still", model).text == "still"
    multi.unload(model)


def test_unloading_frees_the_worker_at_once(multi: Server, model: str) -> None:
    """DELETE ends the model's process, and the server has no file more than before."""
    (directory,) = Path(multi.temporary).iterdir()
    # Of a load that has failed before, the last worker may be about to end still.
    eventually(lambda: not list(directory.rglob("*.failure-*")))
    files = set(directory.rglob("*"))
    multi.load(model)
    worker = multi.only_worker(model)
    assert multi.unload(model).status_code == 200
    assert eventually(lambda: all_gone([worker]), 3)
    assert set(directory.rglob("*")) == files


def test_a_model_answers_what_it_was_asked_before_it_is_unloaded(multi: Server, model: str) -> None:
    """DELETE waits for the request that runs and those behind it; new ones are refused; then nothing is left."""
    multi.load(model)
    worker = multi.only_worker(model)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(multi.invoke, "sleep 0.4", model) for _ in range(4)]
        time.sleep(0.3)  # for the requests to be there; were they not, they would be refused
        unload = pool.submit(multi.unload, model)
        assert eventually(lambda: multi.invoke("echo", model).status_code in (503, 404))
        assert unload.result().status_code == 200
        assert eventually(lambda: all_gone([worker]), 1)
        assert [answer.result().text for answer in waiting] == ["slept"] * 4
    assert multi.load(model).status_code == 200
    assert multi.invoke("echo again", model).text == "again"
    multi.unload(model)


def test_a_model_is_unloaded_with_its_queue_full(start: Callable[..., Server]) -> None:
    """What does not fit into the queue is 503; DELETE leaves no process of the model's, and nobody waits for ever."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_JOB_QUEUE_SIZE="2").ready()
    server.load("m")
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(server.invoke, "sleep 0.5", "m") for _ in range(5)]
        time.sleep(0.3)
        assert server.unload("m").status_code == 200
        assert {answer.result().status_code for answer in waiting} <= {200, 503}
    assert eventually(lambda: not server.processes()["worker"])
    assert server.stop() == 0


def test_what_waits_for_a_model_that_cannot_be_loaded_is_answered(multi: Server, model: str) -> None:
    """Requests that come while a model loads are answered when its load fails."""
    with ThreadPoolExecutor(5) as pool:
        load = pool.submit(multi.load, model, "late_failure 1")
        assert eventually(lambda: model in multi.listed())
        waiting = [pool.submit(multi.invoke, "echo", model) for _ in range(3)]
        assert load.result().status_code == 500
        assert {answer.result().status_code for answer in waiting} <= {500, 503, 404}


def test_what_handlers_print_reaches_the_log_with_the_models_name(multi: Server, model: str) -> None:
    """print, stderr, logging and bytes written past Python all come out, each line with the model's name before it."""
    multi.load(model)
    assert multi.invoke("print something", model).text == "printed"
    assert eventually(lambda: f"[{model}] something\n" in multi.output())
    assert eventually(lambda: f"[{model}] something on stderr\n" in multi.output())
    assert eventually(lambda: "logged: something" in multi.output())
    multi.unload(model)
    assert eventually(lambda: f"[{model}] written without a line end\n" in multi.output())


def test_what_handlers_print_cannot_harm_the_server(multi: Server, model: str) -> None:
    """Lines that stock MMS takes for commands, and a line of 3 MB, are output like any other."""
    multi.load(model)
    assert multi.invoke("print_hostile", model).text == "printed"
    assert multi.invoke("print after", model).text == "printed"
    assert eventually(lambda: f"[{model}] [PID] abc\n" in multi.output() and f"[{model}] after\n" in multi.output())
    multi.unload(model)


def test_one_line_for_each_failed_request_and_none_for_others(multi: Server, model: str) -> None:
    """Requests and pings that succeed leave no line of the front end's; one that failed leaves one."""
    multi.load(model)
    multi.ping()
    multi.invoke("echo", model)
    multi.invoke("status 422", model)
    assert eventually(lambda: f'"POST /models/{model}/invoke HTTP/1.1" 422' in multi.output())
    assert f'"POST /models/{model}/invoke HTTP/1.1" 200' not in multi.output()
    assert '"GET /ping' not in multi.output()
    multi.unload(model)


def test_the_body_limit_holds_for_requests_and_answers(multi: Server, model: str) -> None:
    """A request over the limit is 413 and says so; one at the limit passes; too large an answer is 500, no crash."""
    multi.load(model)
    limit = 2 << 20
    assert multi.invoke(b"size".ljust(limit, b"\0"), model).text == str(limit)
    answer = multi.invoke(b"size".ljust(limit + 1, b"\0"), model)
    assert answer.status_code == 413
    assert "SAGEMAKER_MAX_PAYLOAD_IN_MB" in answer.json()["message"]
    chunked = requests.post(f"{multi.url}/models/{model}/invoke", data=iter([b"x" * (1 << 20)] * 3))
    assert chunked.status_code == 413
    pid = multi.invoke("pid", model).text
    assert len(multi.invoke("answer_of 2", model).content) == limit
    assert multi.invoke("answer_of 3", model).status_code == 500
    assert multi.invoke("pid", model).text == pid
    multi.unload(model)


def test_headers_come_and_go(multi: Server, model: str) -> None:
    """Platform headers are attributes of the context; an answer's headers arrive, whatever answers came before."""
    multi.load(model)
    headers = {
        "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
        "x-amzn-sagemaker-target-model": "a.tar.gz",
        "X-AMZN-SAGEMAKER-INFERENCE-ID": "i-1",
    }
    answer = multi.invoke("attributes", model, headers=headers)
    assert answer.json() == ["trace=1", "a.tar.gz", "i-1", answer.headers["x-request-id"]]
    for _ in range(20):
        multi.invoke("echo", model)
    long = multi.invoke("header X-Long=" + "v" * 180, model)
    assert long.headers["X-Long"] == "v" * 180
    forged = multi.invoke("header X-A=1\r\nX-Forged: 2", model)
    assert "X-Forged" not in forged.headers
    multi.unload(model)


def test_a_model_archive_loads_with_the_handler_of_its_manifest(multi: Server, model: str, tmp_path: Path) -> None:
    """A .mar file: unpacked by the front end, handled by the handler that its manifest names, relative to it."""
    manifest = {"model": {"modelName": "other", "handler": "service.py:handle"}, "runtime": "python"}
    archive = tmp_path / "model.mar"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        file.writestr(
            "service.py", "def handle(data, context):\n    return data and [context.manifest['model']['handler']]\n"
        )
    answer = requests.post(multi.url + "/models", json={"model_name": model, "url": str(archive)})
    assert answer.status_code == 200, multi.output()
    assert multi.invoke("x", model).text == "service.py:handle"
    multi.unload(model)


HANDLER_FORMS = {
    "function": ("service.py:predict", "def predict(data, context):\n    return data and ['function']\n"),
    "module": ("service:predict", "def predict(data, context):\n    return data and ['module']\n"),
    "handle": ("service", "def handle(data, context):\n    return data and ['handle']\n"),
    "class": (
        "service.py",
        "class Service:\n"
        "    def initialize(self, context):\n"
        "        self.answer = 'class'\n"
        "    def handle(self, data, context):\n"
        "        return [self.answer]\n",
    ),
}


@pytest.mark.parametrize("form", HANDLER_FORMS)
def test_every_form_of_handler_is_served(multi: Server, model: str, form: str) -> None:
    """A load may name a handler of its own, in each of MMS's forms, found in the model's directory."""
    handler, source = HANDLER_FORMS[form]
    directory = multi.base_dir / "models" / model / "model"
    directory.mkdir(parents=True)
    (directory / "service.py").write_text(source)
    assert multi.load(model, handler=handler).status_code == 200, multi.output()
    assert multi.invoke("x", model).text == form
    multi.unload(model)


def test_the_errors_of_initialize_are_load_errors(multi: Server, model: str) -> None:
    """A class handler whose initialize fails is not loaded; stock MMS would report it loaded."""
    directory = multi.base_dir / "models" / model / "model"
    directory.mkdir(parents=True)
    (directory / "service.py").write_text(
        "class Service:\n"
        "    def initialize(self, context):\n"
        "        raise KeyError('weights')\n"
        "    def handle(self, data, context):\n"
        "        return data\n"
    )
    assert multi.load(model, handler="service.py").status_code == 500
    assert model not in multi.listed()
    assert eventually(lambda: "KeyError: 'weights'" in multi.output())


def test_a_models_handler_that_is_missing_fails_its_load(multi: Server, model: str) -> None:
    """The log names what was looked for and where."""
    assert multi.load(model, handler="missing.py:handle").status_code == 500
    directory = multi.base_dir / "models" / model / "model"
    assert eventually(lambda: f"there is no file {directory / 'missing.py'}" in multi.output())
    assert model not in multi.listed()


def test_a_batch_is_one_call_and_each_item_keeps_its_own(multi: Server, model: str) -> None:
    """With batch_size, requests that come together are handled together; each gets its own answer."""
    multi.load(model, batch_size=4, max_batch_delay=100)
    commands = [f"echo {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda command: multi.invoke(command, model), commands))
    assert [answer.text for answer in answers] == [str(number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        failed = list(pool.map(lambda _: multi.invoke("raise", model), range(4)))
    assert {answer.status_code for answer in failed} == {500}
    with ThreadPoolExecutor(4) as pool:
        died = list(pool.map(lambda _: multi.invoke("vanish 9", model), range(4)))
    assert {answer.status_code for answer in died} == {500}
    assert multi.invoke("echo on", model).text == "on"
    multi.unload(model)


def test_many_models_leave_nothing_behind(multi: Server, model: str) -> None:
    """Loading and unloading over and over leaves no process, file or socket, and no more open files in the zygote."""
    zygote = multi.processes()["zygote"][0]
    java = multi.processes()["java"][0]

    def cycle(number: int) -> None:
        assert multi.load(f"{model}-{number}").status_code == 200
        assert multi.unload(f"{model}-{number}").status_code == 200

    cycle(0)
    eventually(lambda: not multi.processes()["worker"])
    before: Any = (zygote.num_fds(), len(multi.descendants()))
    for number in range(1, 16):
        cycle(number)
    assert eventually(lambda: (zygote.num_fds(), len(multi.descendants())) == before)
    assert java.is_running()
    assert os.listdir(multi.base_dir / "models" / f"{model}-1" / "model") == ["on_load"]
