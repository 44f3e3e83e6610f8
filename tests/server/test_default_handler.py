# SPDX-License-Identifier: Apache-2.0
"""The default handler service on the real server: models with programs of their own."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from running_server import PROGRAMS, Server, eventually, serving

from sagemaker_inference_lite import codecs

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A multi-model server whose handler is a subclass, with a module beside it."""
    handler = f"{PROGRAMS / 'shared_handler.py'}:Handler"
    more = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "26"}
    with serving(tmp_path_factory.mktemp("base"), handler, **more) as server:
        yield server


def load(
    server: Server, name: str, program: str, more: dict[str, Any] | None = None, **files: str
) -> requests.Response:
    """Loads a model with that program, and other modules beside it."""
    directory = server.base_dir / "models" / name / "model"
    (directory / "code").mkdir(parents=True)
    for stem, text in {"inference": program, **files}.items():
        (directory / "code" / f"{stem}.py").write_text(textwrap.dedent(text))
    body = {"model_name": name, "url": str(directory), **(more or {})}
    return requests.post(f"{server.url}/models", json=body, timeout=60)


def ask(server: Server, name: str, body: Any, **headers: str) -> requests.Response:
    """Asks a model, in JSON unless the headers say otherwise."""
    headers = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return requests.post(f"{server.url}/models/{name}/invoke", data=body, headers=headers, timeout=60)


ECHO = "def model_fn(model_dir): return lambda data: data"


def test_each_model_has_modules_of_its_own(server: Server) -> None:
    """Modules of the same name, of two models and of the handler they share, never meet."""
    for name in ("ours", "theirs"):
        program = "import neighbour\ndef model_fn(model_dir): return lambda data: neighbour.NAME"
        assert load(server, name, program, neighbour=f"NAME = {name!r}").status_code == 200
    for name in ("ours", "theirs"):
        answer = ask(server, name, "[1]")
        assert (answer.json(), answer.headers["X-Handler"]) == (name, "the handler's neighbour")


def test_a_line_of_a_handler_s_log_names_model_and_request(server: Server) -> None:
    """The author only logs, and the line has the model's name and the request's id; print() has the name."""
    program = """
        import logging
        logger = logging.getLogger("the.author")
        def model_fn(model_dir): logger.info("loading"); return None
        def predict_fn(data, model): logger.info("predicting"); print("printed"); return 1
    """
    assert load(server, "logs", program).status_code == 200
    request_id = ask(server, "logs", "[1]").headers["x-request-id"]
    assert eventually(lambda: f"the.author [{request_id}] - predicting" in server.output())
    lines = server.output().splitlines()
    assert [line for line in lines if re.fullmatch(rf"\[logs\] .*the\.author \[{request_id}\] - predicting", line)]
    assert [line for line in lines if re.fullmatch(r"\[logs\] .*the\.author - loading", line)]
    assert "[logs] printed" in lines


def test_an_author_s_logging_hides_no_failure(server: Server) -> None:
    """A program that sets up logging, and so disables all loggers that are there, still has its failures logged."""
    program = """
        import logging.config
        handlers = {"author's": {"class": "logging.StreamHandler"}}
        logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["author's"]}})
        def model_fn(model_dir): return None
        def predict_fn(data, model): raise LookupError("hidden")
    """
    assert load(server, "configured", program).status_code == 200
    error_id = ask(server, "configured", "[1]").json()["error"]["id"]
    assert eventually(lambda: re.search(rf"error id {error_id}: LookupError: hidden\n", server.output()))


def test_a_header_that_cannot_be_sent_is_an_answer(server: Server) -> None:
    """A name that is none of a header fails its request, which would wait for ever, and the log says which name."""
    program = """
        def model_fn(model_dir): return None
        def predict_fn(data, model, context): context.set_response_header(0, data, "\\v\\f\\x1b[0m")
    """
    assert load(server, "headers", program).status_code == 200
    assert ask(server, "headers", '"X-Grün"').status_code == 500
    assert eventually(lambda: "'X-Grün' is not a valid header name" in server.output())
    answer = ask(server, "headers", '"X-Good"')
    assert (answer.status_code, answer.headers["X-Good"].strip()) == (200, "[0m")


def test_a_batch_is_one_call_and_each_item_its_own_request(server: Server) -> None:
    """Requests that come together are one call of predict_batch_fn; each has its type, status, headers and error."""
    program = """
        from sagemaker_inference_lite.errors import ClientError
        def model_fn(model_dir): return None
        def predict_batch_fn(data, model, context):
            context.set_custom_attributes(f"one of {len(data)}", 0)
            return [ClientError(422, "odd") if each.sum() % 2 else [len(data), float(each.sum())] for each in data]
    """
    assert load(server, "batch", program, {"batch_size": 4, "max_batch_delay": 2000}).status_code == 200
    requests_of_the_batch: list[tuple[str, dict[str, str]]] = [
        ("[2, 2]", {}),
        ("3\n", {"Content_Type": "text/csv"}),
        ("8\n", {"Content_Type": "text/csv", "Accept": "text/csv"}),
        ("[", {}),
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: ask(server, "batch", each[0], **each[1]), requests_of_the_batch))
    assert [answer.status_code for answer in answers] == [200, 422, 200, 400]
    assert (answers[0].json(), answers[2].text) == ([3, 4.0], "3.0\n8.0\n")
    assert answers[1].json()["error"]["message"] == "odd"
    assert [CUSTOM_ATTRIBUTES in answer.headers for answer in answers].count(True) == 1


def test_custom_attributes_come_and_go(server: Server) -> None:
    """A program reads the request's custom attributes and sets the answer's, and cannot forge a header with them."""
    program = """
        def model_fn(model_dir): return None
        def predict_fn(data, model, context):
            context.set_response_header(0, "X-Forged", "a\\r\\nSet-Cookie: b")
            context.set_custom_attributes(context.custom_attributes.upper())
            return [context.inference_id, context.target_model]
    """
    assert load(server, "attributes", program).status_code == 200
    answer = ask(
        server,
        "attributes",
        "[1]",
        X_Amzn_SageMaker_Custom_Attributes="trace=1",
        X_Amzn_SageMaker_Inference_Id="i-1",
        X_Amzn_SageMaker_Target_Model="a.tar.gz",
    )
    assert answer.json() == ["i-1", "a.tar.gz"]
    assert answer.headers[CUSTOM_ATTRIBUTES] == "TRACE=1"
    assert "Set-Cookie" not in answer.headers


def test_streaming_is_refused_clearly(server: Server) -> None:
    """A program that yields is told so by its first answer, and the worker goes on."""
    program = "def model_fn(d): return None\ndef predict_fn(data, model):\n    yield 1"
    assert load(server, "stream", program).status_code == 200
    for _ in range(2):
        answer = ask(server, "stream", "[1]")
        assert answer.status_code == 500
        assert "Streaming is not available on this engine" in answer.json()["error"]["message"]


def test_a_program_that_is_wrong_is_a_failed_load_that_says_why(server: Server) -> None:
    """A wrong signature, and functions that exclude each other, fail the load; the log names the function."""
    assert load(server, "signature", "def predict_fn(data): ...").status_code == 500
    assert eventually(lambda: "predict_fn(data) in " in server.output())
    assert load(server, "both", "def transform_fn(*a): ...\ndef input_fn(*a): ...").status_code == 500
    assert eventually(lambda: "defines transform_fn beside input_fn" in server.output())
    assert not {"signature", "both"} & set(server.listed())


def test_a_model_that_can_answer_nothing_is_a_failed_load_that_says_why(server: Server) -> None:
    """A model that nothing could ask is not listed, and the log has the reason and what to do."""
    answer = load(server, "mute", "def model_fn(model_dir): return {'weights': [1, 2]}")
    assert (answer.status_code, "mute" in server.listed()) == (500, False)
    assert eventually(lambda: "can answer no request: a model of type dict has no method predict" in server.output())


def test_a_single_model_that_can_answer_nothing_ends_the_server(tmp_path: Path) -> None:
    """With one model the start ends with status 6 and the reason."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text("def model_fn(model_dir): return {}")
    server = Server(tmp_path, None, SAGEMAKER_MODEL_SERVER_WORKERS="1")
    try:
        assert server.ended() == 6
        assert "can answer no request: a model of type dict has no method predict" in server.output()
    finally:
        server.kill()


def hostile() -> dict[str, tuple[str, bytes, int]]:
    """Bodies that mean harm: content type, body, and the status that each gets."""
    deep = b"[" * 100_000 + b"]" * 100_000
    return {
        "deep JSON": ("application/json", deep, 400),
        "a deep JSON line": ("application/jsonlines", deep, 400),
        "no CSV": ("text/csv", b'"' + b"\0" * 1000, 400),
        "a pickle in NPY": ("application/x-npy", npy_with_objects(), 400),
        "not NPZ": ("application/x-npz", b"PK\x03\x04" + b"\xff" * 1000, 400),
        "not PNG": ("image/png", b"\x89PNG\r\n\x1a\n" + b"\xff" * 1000, 400),
        "not JPEG": ("image/jpeg", b"\xff\xd8\xff\xe0" + b"\0" * 1000, 400),
        "no such type": ("application/x-nothing", b"", 415),
        "no type at all": ("////", b"", 400),
    }


def npy_with_objects() -> bytes:
    """An NPY body whose array would have to be unpickled."""
    return b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 14 + b"\nxxx"


def test_hostile_bodies_are_answered_by_the_same_worker(server: Server) -> None:
    """Whatever a body holds, it is refused with a reason and without a traceback, and the worker lives."""
    program = "import os\ndef model_fn(model_dir): return lambda data: os.getpid()"
    assert load(server, "hostile", program).status_code == 200
    before = ask(server, "hostile", "[1]").json()
    for name, (content_type, body, status) in hostile().items():
        answer = ask(server, "hostile", body, Content_Type=content_type)
        assert answer.status_code == status, name
        assert set(answer.json()["error"]) == {"id", "type", "message"}
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text
    assert ask(server, "hostile", "[1]").json() == before


@pytest.mark.parametrize("content_type", codecs.encodable())
def test_bodies_of_every_type(server: Server, content_type: str) -> None:
    """Each type that is advertised can be sent and asked for, up to the largest body."""
    name = "echo-" + re.sub(r"\W", "-", content_type)
    assert load(server, name, ECHO).status_code == 200
    value: Any = np.ones((4, 4, 3), np.uint8) if content_type.startswith("image/") else np.eye(4)
    value = {"text/plain": "text", "application/octet-stream": b"\0\1"}.get(content_type, value)
    body, _ = codecs.encode(value, content_type)
    answer = ask(server, name, body, Content_Type=content_type, Accept=content_type)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
    assert np.array_equal(codecs.decode(answer.content, content_type), value)  # type: ignore[arg-type]


def test_the_largest_body(server: Server) -> None:
    """A body of 25 MB reaches the model whole, and so does the answer the caller."""
    assert load(server, "large", "def model_fn(model_dir): return lambda data: data + 1").status_code == 200
    body, content_type = codecs.encode(np.zeros(25 * 1024 * 1024 // 8), "application/x-npy")
    answer = ask(server, "large", body, Content_Type=content_type, Accept=content_type)
    assert answer.status_code == 200
    assert codecs.decode(answer.content, content_type).sum() == 25 * 1024 * 1024 // 8  # type: ignore[attr-defined]


def test_tracebacks_stay_at_home(server: Server, tmp_path: Path) -> None:
    """An error of ours has an id, a type and a message; the log has its record with the id and the cause."""
    program = "def model_fn(d): return None\ndef predict_fn(data, model): raise ValueError('a secret')"
    assert load(server, "fails", program).status_code == 200
    answer = ask(server, "fails", "[1]", X_Amzn_SageMaker_Inference_Id="mine-1")
    error = json.loads(answer.text)["error"]
    assert (answer.status_code, set(error)) == (500, {"id", "type", "message"})
    expected = f"request {answer.headers['x-request-id']} failed with status 500, error id {error['id']}"
    assert eventually(lambda: f"{expected}, inference id mine-1: ValueError: a secret" in server.output())
    assert "secret" not in answer.text
