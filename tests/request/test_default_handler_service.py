# SPDX-License-Identifier: Apache-2.0
"""The default handler service, called as MMS calls it."""

from __future__ import annotations

import inspect
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagemaker_inference_lite import codecs, default_handler_service
from sagemaker_inference_lite.content_types import CSV, JSON, NPY, OCTET_STREAM, TEXT_PLAIN
from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.default_handler_service import DefaultHandlerService
from sagemaker_inference_lite.errors import ClientError, ModelError, ServerError, SettingsError
from sagemaker_inference_lite.settings import Settings


@pytest.fixture(autouse=True)
def _modules_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what a load does to sys.path and sys.modules."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "inference_" in name:
            del sys.modules[name]


class Echo(DefaultHandlerService):
    """A service whose model is a function of the test's; without one it gives back what it gets."""

    def load(self, model_dir: str) -> Any:
        """The function."""
        return lambda data: data


def make(directory: Path, program: str | None = None, settings: Settings | None = None) -> DefaultHandlerService:
    """A service for a model with that program, initialized."""
    if program is not None:
        (directory / "code").mkdir(exist_ok=True)
        (directory / "code" / "inference.py").write_text(textwrap.dedent(program), encoding="utf-8")
    service = DefaultHandlerService(settings or Settings())
    service.initialize(Context("model", str(directory)))
    return service


def echo(settings: Settings | None = None) -> Echo:
    """A service that gives back what it gets, initialized."""
    service = Echo(settings or Settings())
    service.initialize(Context("model", "/nowhere"))
    return service


Request = tuple[object, Mapping[str, str]]


def call(service: DefaultHandlerService, *requests: Request) -> tuple[list[bytes], Context]:
    """The bodies that a batch is answered with, and the context with statuses and content types."""
    context = Context("model", "/nowhere")
    context.begin((f"id-{place}", headers, body) for place, (body, headers) in enumerate(requests))
    bodies = service.handle([{"body": body} for body, _ in requests], context)
    assert bodies is not None
    assert all(type(body) is bytes for body in bodies)
    return bodies, context


def error_of(body: bytes) -> dict[str, str]:
    """What an error body says."""
    error: dict[str, str] = json.loads(body)["error"]
    return error


PLAIN: Request = (b"[1, 2]", {"Content-Type": JSON})


# -- The protocol ------------------------------------------------------------------------------------------------------


def test_the_module_is_a_class_handler() -> None:
    """The module defines one class, with initialize and handle, and no function handle: so MMS takes the class."""
    module = default_handler_service
    classes = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
    assert classes == [DefaultHandlerService]
    assert not hasattr(module, "handle")


def test_settings_come_from_the_environment_where_none_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MMS makes an instance without arguments; the environment is read when it is initialized, and not before."""
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "serve.py")
    monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "serve.py").write_text("def model_fn(model_dir): return lambda data: data")
    service = DefaultHandlerService()
    assert service.settings == Settings()
    service.initialize(Context("model", str(tmp_path)))
    assert call(service, PLAIN)[0] == [b"1\n2\n"]


def test_settings_that_cannot_be_used_fail_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot be used is an error of the load's, not of each request's."""
    monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "nonsense")
    with pytest.raises(SettingsError):
        DefaultHandlerService().initialize(Context("model", str(tmp_path)))


def test_given_settings_are_not_mixed_with_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was given settings reads no environment."""
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "serve.py")
    service = make(tmp_path, "def model_fn(model_dir): return len")
    assert service.settings == Settings()


def test_a_bound_handle_serves_as_a_function(tmp_path: Path) -> None:
    """The first call of a function handler, with no data, loads the model and answers None (mms/model_loader.py)."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("def model_fn(model_dir): return sum")
    service = DefaultHandlerService(Settings())
    assert service.handle(None, Context("model", str(tmp_path))) is None
    assert service.initialized
    assert call(service, PLAIN)[0] == [b"3"]


def test_the_model_is_loaded_once(tmp_path: Path) -> None:
    """Requests do not load the model again, and neither does a further call without data."""
    service = make(tmp_path, "loads = []\ndef model_fn(model_dir): loads.append(1); return lambda data: len(loads)")
    assert service.handle(None, service.context) is None
    assert call(service, PLAIN, PLAIN)[0] == [b"1", b"1"]


def test_an_empty_batch_has_no_answers() -> None:
    """A batch without requests is answered with an empty list."""
    assert call(echo())[0] == []


# -- Load --------------------------------------------------------------------------------------------------------------


def test_model_fn_gets_the_model_directory(tmp_path: Path) -> None:
    """model_fn is called with the model's directory, and what it returns is the model."""
    assert make(tmp_path, "def model_fn(model_dir, context): return model_dir, context.model_name").model == (
        str(tmp_path),
        "model",
    )


def test_errors_of_model_fn_are_not_wrapped(tmp_path: Path) -> None:
    """What model_fn raises leaves initialize as it is, and the service is not initialized."""
    service = DefaultHandlerService(Settings())
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("def model_fn(model_dir): raise MemoryError('too large')")
    with pytest.raises(MemoryError, match="too large"):
        service.initialize(Context("model", str(tmp_path)))
    assert not service.initialized


def test_model_joblib_is_loaded_where_there_is_no_model_fn(tmp_path: Path) -> None:
    """A model.joblib is the model, made with classes that lie in the code directory if need be."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump({"weights": [1, 2]}, tmp_path / "model.joblib")
    assert make(tmp_path).model == {"weights": [1, 2]}


def test_a_model_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A broken model.joblib fails the load with its path and the cause."""
    pytest.importorskip("joblib", reason="joblib is not installed")
    (tmp_path / "model.joblib").write_bytes(b"garbage")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        make(tmp_path)
    assert str(tmp_path / "model.joblib") in str(caught.value)
    assert caught.value.__cause__ is not None


def test_no_model_at_all_says_what_was_looked_for(tmp_path: Path) -> None:
    """Without a model_fn and a model.joblib the load fails, and says what was looked for, where, and what is there."""
    (tmp_path / "model.bin").touch()
    with pytest.raises(ModelError) as caught:
        make(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path / 'code' / 'inference.py'} is not there" in message
    assert f"model.joblib is not in {tmp_path}, which holds model.bin." in message
    with pytest.raises(ModelError, match=r"inference.py defines no model_fn, .* which holds code, model.bin"):
        make(tmp_path, "")


# -- A request ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [JSON, CSV, NPY])
@pytest.mark.parametrize("accept", [JSON, CSV, NPY])
def test_bodies_are_decoded_and_answers_encoded_by_type(content_type: str, accept: str) -> None:
    """The request's type decodes its body, and the accepted type encodes the answer and is its content type."""
    body, _ = codecs.encode([[1.5, 2.0]], content_type)
    bodies, context = call(echo(), (body, {"content-type": content_type, "ACCEPT": accept}))
    assert context.get_response_content_type(0) == accept
    assert np.array_equal(codecs.decode(bodies[0], accept), [[1.5, 2.0]])  # type: ignore[arg-type] # an array
    assert context.get_response_status(0)[0] == 200


def test_a_body_without_a_type_is_json() -> None:
    """Without a Content-Type header, or with an empty one, the body is taken for JSON."""
    assert call(echo(), (b"[1]", {}), (b"[2]", {"Content-Type": ""}))[0] == [b"[1]", b"[2]"]


@pytest.mark.parametrize("accept", [None, "", "*/*", " */* ", "*/*;q=0.8"])
def test_the_default_type_answers_those_who_ask_for_none(accept: str | None) -> None:
    """Where Accept is missing, empty or names only any type, the setting says what the answer is."""
    headers = {"Content-Type": JSON} if accept is None else {"Content-Type": JSON, "Accept": accept}
    service = echo(Settings(default_invocations_accept=CSV))
    bodies, context = call(service, (b"[1.5]", headers))
    assert (bodies, context.get_response_content_type(0)) == ([b"1.5\n"], CSV)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda body: body.decode()])
def test_a_body_may_be_any_kind_of_bytes_or_text(kind: Any) -> None:
    """The method preprocess gets bytes, whatever kind of bytes, or text, the body came as."""
    seen = []

    class Service(Echo):
        def preprocess(self, body: bytes, content_type: str) -> Any:
            seen.append(body)
            return super().preprocess(body, content_type)

    service = Service(Settings())
    service.initialize(Context("model", "/nowhere"))
    assert call(service, (kind(b"[1]"), {}))[0] == [b"[1]"]
    assert seen == [b"[1]"]
    assert type(seen[0]) is bytes


def handle_raw(service: DefaultHandlerService, item: dict[str, Any]) -> tuple[bytes, Context]:
    """The answer to one request that has no body, or no ordinary one."""
    context = Context("model", "/nowhere")
    context.begin([("id", {}, None)])
    bodies = service.handle([item], context)
    assert bodies is not None
    return bodies[0], context


def test_a_request_without_a_body_has_an_empty_one() -> None:
    """Where MMS sends no body at all, it is empty, which is not JSON: 400."""
    body, context = handle_raw(echo(), {})
    assert context.get_response_status(0)[0] == 400
    assert "not JSON" in error_of(body)["message"]


def test_a_form_is_415() -> None:
    """A form has fields and no body; it is refused with the types that are supported."""
    body, context = handle_raw(echo(), {"field": b"1", "other": b"2"})
    assert context.get_response_status(0)[0] == 415
    assert "application/json" in error_of(body)["message"]


def test_a_query_string_changes_nothing() -> None:
    """Parameters of the URL lie beside the body, and are left to handlers that want them."""
    assert handle_raw(echo(), {"verbose": b"1", "body": b"[1]"})[0] == b"[1]"


def test_a_body_that_was_decoded_already_is_refused_clearly() -> None:
    """An object in place of a body is a mistake of the server's configuration, and is said to be one."""
    with pytest.raises(TypeError, match="body must be bytes, not dict"):
        handle_raw(echo(), {"body": {"a": 1}})


# -- Hooks and overrides -----------------------------------------------------------------------------------------------


def test_hooks_replace_the_defaults(tmp_path: Path) -> None:
    """Each function of the program takes the place of its default, and gets the context if it wants it."""
    service = make(
        tmp_path,
        """
        def model_fn(model_dir): return "model"
        def input_fn(body, content_type): return [body.decode(), content_type]
        def predict_fn(data, model, context): return [*data, model, context.request_id]
        def output_fn(prediction, accept): return "|".join([*prediction, accept]), "text/x-joined"
        """,
    )
    bodies, context = call(service, (b"body", {"Content-Type": "a/b", "Accept": "c/d"}))
    assert bodies == [b"body|a/b|model|id-0|c/d"]
    assert context.get_response_content_type(0) == "text/x-joined"


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ("def predict_fn(data, model): return data * 2", b"[2,4]"),
        ("def input_fn(body, content_type): return [7]", b"[7]"),
        ("def output_fn(prediction, accept): return 'out'", b"out"),
    ],
)
def test_each_hook_works_alone(tmp_path: Path, hook: str, expected: bytes) -> None:
    """A program may define any one function, and the others stay the defaults."""
    assert call(make(tmp_path, f"def model_fn(model_dir): return lambda data: data\n{hook}"), PLAIN)[0] == [expected]


@pytest.mark.parametrize(
    ("method", "expected"),
    [("preprocess", b"[3,3]"), ("predict", b'"3 3"'), ("postprocess", b"overridden"), ("load", b'"loaded"')],
)
def test_each_method_can_be_overridden_alone(method: str, expected: bytes) -> None:
    """A subclass that overrides one of the four steps keeps the others."""
    overrides: dict[str, Any] = {
        "preprocess": lambda self, body, content_type: np.array([3, 3]),
        "predict": lambda self, data, model: "3 3",
        "postprocess": lambda self, prediction, accept: "overridden",
        "load": lambda self, model_dir: lambda data: "loaded",
    }
    service = type("Service", (Echo,), {method: overrides[method]})(Settings())
    service.initialize(Context("model", "/nowhere"))
    assert call(service, PLAIN)[0] == [expected]


class Predictor:
    """A model with the method that scikit-learn's have, which can also be called."""

    def predict(self, data: Any) -> Any:
        """The way that is preferred."""
        return data + 1

    def __call__(self, data: Any) -> Any:
        """The way that is not."""
        raise AssertionError


def test_a_model_is_asked_by_predict_or_called() -> None:
    """A model's method predict goes before a call of the model itself."""
    service = echo()
    assert service.predict(1, Predictor()) == 2
    assert service.predict([1, 2], sum) == 3


def test_a_model_that_cannot_be_asked_is_a_clear_error() -> None:
    """A model with neither is a TypeError that names its type."""
    with pytest.raises(TypeError, match="a model of type dict has no method predict"):
        echo().predict([1], {"weights": 1})


@pytest.mark.parametrize(
    ("response", "accept", "body", "content_type"),
    [
        (b"png", "image/png", b"png", "image/png"),
        (bytearray(b"png"), "image/png", b"png", "image/png"),
        (memoryview(b"png"), "image/png;q=0.5, image/gif;q=0.1", b"png", "image/png"),
        (b"png", "image/*", b"png", OCTET_STREAM),
        ("grün", "text/html", "grün".encode(), "text/html"),
        ("text", "text/*", b"text", TEXT_PLAIN),
        ('{"a":1}', "*/*", b'{"a":1}', JSON),
        (("a,b", CSV), JSON, b"a,b", CSV),
        ((b"a", "x/y"), JSON, b"a", "x/y"),
        (([1, 2], CSV), JSON, b"1\n2\n", CSV),
        ((np.array([1.5]), JSON), "*/*", b"[1.5]", JSON),
        ((1, 2), JSON, b"[1,2]", JSON),
        (np.array([1.5]), CSV, b"1.5\n", CSV),
        ({"a": 1}, "*/*", b'{"a":1}', JSON),
        (None, JSON, b"null", JSON),
    ],
)
def test_postprocess_may_return_bodies_pairs_and_objects(
    response: object, accept: str, body: bytes, content_type: str
) -> None:
    """Bytes and text are sent as they are, a pair brings its content type, and everything else is encoded."""

    class Service(Echo):
        def postprocess(self, prediction: Any, accept: str) -> Any:
            return response

    service = Service(Settings())
    service.initialize(Context("model", "/nowhere"))
    bodies, context = call(service, (b"[1]", {"Accept": accept}))
    assert (bodies, context.get_response_content_type(0)) == ([body], content_type)


# -- Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind", "phrase"),
    [
        (b"{", {"Content-Type": JSON}, 400, "ClientError", "Bad Request"),
        (b"1,2\n3", {"Content-Type": CSV}, 400, "ClientError", "Bad Request"),
        (b"1", {"Content-Type": "nonsense"}, 400, "ClientError", "Bad Request"),
        (b"1", {"Content-Type": "image/png"}, 415, "UnsupportedMediaTypeError", "Unsupported Media Type"),
        (b"[1]", {"Accept": "image/png"}, 406, "NotAcceptableError", "Not Acceptable"),
        (b'{"a": 1}', {"Accept": "text/csv"}, 406, "NotAcceptableError", "Not Acceptable"),
    ],
)
def test_mistakes_of_clients_are_4xx(
    body: bytes, headers: dict[str, str], status: int, kind: str, phrase: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a client did wrong is answered with its status and a JSON body, and logged without a traceback."""
    caplog.set_level(logging.INFO)
    bodies, context = call(echo(), (body, headers))
    error = error_of(bodies[0])
    assert context.get_response_status(0) == (status, phrase)
    assert context.get_response_content_type(0) == JSON
    assert error["type"] == kind
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert error["id"] in record.getMessage()


class Commanded(Echo):
    """A service that does as the request says."""

    def predict(self, data: Any, model: Any) -> Any:
        """Raises what was asked for."""
        if data == "client":
            raise ClientError(422, "no such user")
        if data == "odd":
            raise ClientError(499, "an odd status")
        if data == "server":
            raise ServerError(503, "come back later")
        if data == "broken":
            raise RuntimeError("secret\n[PID] 1")
        if data == "memory":
            raise MemoryError("secret")
        return data


def commanded(settings: Settings | None = None) -> Commanded:
    """A service that does as the request says, initialized."""
    service = Commanded(settings or Settings())
    service.initialize(Context("model", "/nowhere"))
    return service


def test_errors_are_per_item(caplog: pytest.LogCaptureFixture) -> None:
    """In a batch each request has its own status, type and error, and those without an error are answered."""
    commands = ["fine", "client", "server", "broken", "memory", "odd", "fine"]
    bodies, context = call(commanded(), *((json.dumps(each).encode(), {}) for each in commands))
    statuses = [context.get_response_status(place)[0] for place in range(len(commands))]
    assert statuses == [200, 422, 503, 500, 507, 499, 200]
    assert bodies[0] == bodies[6] == b'"fine"'
    messages = [error_of(body)["message"] for body in bodies[1:6]]
    assert messages[:2] == ["no such user", "come back later"]
    assert messages[4] == "an odd status"
    assert all(context.get_response_content_type(place) == JSON for place in range(len(commands)))


def test_failures_in_a_batch_are_logged_with_their_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the traceback under the id that the caller got, on a line that the message cannot break."""
    bodies, _ = call(commanded(), (b'"fine"', {}), (b'"broken"', {}))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)
    assert error_of(bodies[1])["id"] in record.getMessage()
    assert "\n" not in record.getMessage()
    assert b"secret" not in bodies[1]
    assert "traceback" not in error_of(bodies[1])


def test_tracebacks_are_sent_where_the_setting_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """With expose_tracebacks, for development, the body of an error holds the traceback."""
    bodies, _ = call(commanded(Settings(expose_tracebacks=True)), (b'"fine"', {}), (b'"broken"', {}))
    trace = error_of(bodies[1])["traceback"]
    assert trace.startswith("Traceback (most recent call last):")
    assert "RuntimeError: secret" in trace


@pytest.mark.parametrize(("command", "kind"), [(b'"broken"', RuntimeError), (b'"memory"', MemoryError)])
def test_a_failure_alone_in_its_batch_propagates(command: bytes, kind: type[Exception]) -> None:
    """The worker answers an unexpected error of a request that is alone, so it leaves handle as it was raised."""
    with pytest.raises(kind, match="secret"):
        call(commanded(), (command, {}))


def test_the_service_goes_on_after_errors() -> None:
    """A request that failed leaves nothing behind for the next."""
    service = commanded()
    with pytest.raises(RuntimeError):
        call(service, (b'"broken"', {}))
    call(service, (b'"client"', {}))
    bodies, context = call(service, (b'"fine"', {}))
    assert (bodies, context.get_response_status(0)[0]) == ([b'"fine"'], 200)


# -- In a process of its own -------------------------------------------------------------------------------------------


def test_two_models_in_two_processes_are_both_right(tmp_path: Path) -> None:
    """Two models with a program and a helper of the same names each answer with their own."""
    program = """
        import sys
        from sagemaker_inference_lite.context import Context
        from sagemaker_inference_lite.default_handler_service import DefaultHandlerService
        service = DefaultHandlerService()
        context = Context("model", sys.argv[1])
        service.initialize(context)
        context.begin([("id", {}, b"[1]")])
        sys.stdout.write(service.handle([{"body": b"[1]"}], context)[0].decode())
    """
    for name in ("a", "b"):
        code = tmp_path / name / "code"
        code.mkdir(parents=True)
        (code / "helper.py").write_text(f"NAME = {name!r}")
        (code / "inference.py").write_text("import helper\ndef model_fn(model_dir): return lambda data: helper.NAME")
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / name)],
            stdout=subprocess.PIPE,
            env=dict(os.environ),
            timeout=60,
            check=True,
        )
        assert json.loads(run.stdout) == name
