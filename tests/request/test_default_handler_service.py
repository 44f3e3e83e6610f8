# SPDX-License-Identifier: Apache-2.0
"""The default handler service, called as MMS calls it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import re
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
from sagemaker_inference_lite.handlers.forms import Field, Form
from sagemaker_inference_lite.runtime import logs
from sagemaker_inference_lite.settings import Settings


@pytest.fixture(autouse=True)
def _modules_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what a load does to sys.path and sys.modules."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("inference", None)


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


def test_a_subclass_may_forget_what_it_overrides() -> None:
    """A constructor, or an initialize, that does not call the one above does no harm; the model is loaded once more."""
    calls = []

    class Forgetful(DefaultHandlerService):
        def __init__(self) -> None:
            self.own = "own"

        def initialize(self, context: Context) -> None:
            calls.append(context.model_name)
            self.model = lambda data: self.own

    service = Forgetful()
    service.initialize(Context("model", "/nowhere"))
    for _ in range(3):
        assert call(service, PLAIN)[0] == [b'"own"']
    assert calls == ["model", "model"]


def test_a_constructor_may_forget_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a call of this class's constructor the settings are those of the environment."""

    class Forgetful(Echo):
        def __init__(self) -> None:
            self.own = "own"

    monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv")
    service = Forgetful()
    service.initialize(Context("model", str(tmp_path)))
    assert call(service, PLAIN)[0] == [b"1\n2\n"]


# -- Load --------------------------------------------------------------------------------------------------------------


def test_model_fn_gets_the_model_directory(tmp_path: Path) -> None:
    """model_fn is called with the model's directory, and what it returns is the model."""
    program = "def model_fn(model_dir, context): return lambda data: [model_dir, context.model_name]"
    assert make(tmp_path, program).model([]) == [str(tmp_path), "model"]


def test_errors_of_model_fn_are_not_wrapped(tmp_path: Path) -> None:
    """What model_fn raises leaves initialize as it is, and the service is not initialized."""
    service = DefaultHandlerService(Settings())
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("def model_fn(model_dir): raise MemoryError('too large')")
    with pytest.raises(MemoryError, match="too large"):
        service.initialize(Context("model", str(tmp_path)))
    assert not service.initialized


def test_a_model_file_is_loaded_where_there_is_no_model_fn(tmp_path: Path) -> None:
    """A model.joblib is the model, made with classes that lie in the code directory if need be."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump(len, tmp_path / "model.joblib")
    assert make(tmp_path).model is len


def test_no_model_at_all_fails_the_load(tmp_path: Path) -> None:
    """Without a model_fn and a model's file the load fails."""
    with pytest.raises(ModelError, match=r"model\.joblib"):
        make(tmp_path, "")


@pytest.mark.parametrize("model", ["{'weights': 1}", "None", "[len]", "object()"])
def test_a_model_that_can_answer_nothing_is_not_loaded(tmp_path: Path, model: str) -> None:
    """What has no method predict, cannot be called and is no model of a library's fails the load with the reason."""
    with pytest.raises(ModelError) as caught:
        make(tmp_path, f"def model_fn(model_dir): return {model}")
    kind = type(eval(model)).__name__
    assert f"The model in {tmp_path} can answer no request: a model of type {kind} has no method predict" in str(
        caught.value
    )
    assert f"predict_fn(data, model) in {tmp_path}/code/inference.py" in str(caught.value)


def test_a_model_file_that_can_answer_nothing_is_not_loaded(tmp_path: Path) -> None:
    """A model.joblib of a transformer, or of a dict with a model in it, fails the load."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is not installed")
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline(preprocessing.StandardScaler())
    for model in (preprocessing.StandardScaler(), {"model": len}, pipeline):
        joblib.dump(model, tmp_path / "model.joblib")
        with pytest.raises(ModelError, match=f"a model of type {type(model).__name__} has no method predict"):
            make(tmp_path)


@pytest.mark.parametrize(
    "function", ["predict_fn(data, model)", "predict_batch_fn(data, model)", "transform_fn(model, body, kind, accept)"]
)
def test_a_program_that_asks_the_model_may_have_any(tmp_path: Path, function: str) -> None:
    """Where the program says how a model is asked, the model may be anything."""
    assert make(tmp_path, f"def model_fn(model_dir): return {{}}\ndef {function}: ...").model == {}


@pytest.mark.parametrize("method", ["handle", "predict", "predict_batch"])
def test_a_subclass_that_asks_the_model_may_have_any(method: str) -> None:
    """Where a subclass, or an instance, says how a model is asked, the model may be anything."""

    def load(self: object, model_dir: str) -> object:
        return {}

    def answer(*_: object) -> object:
        return None

    for members in ({"load": load, method: answer}, {"load": load}):
        service: DefaultHandlerService = type("Service", (DefaultHandlerService,), members)(Settings())
        setattr(service, method, answer)
        service.initialize(Context("model", "/nowhere"))
        assert service.model == {}


def test_functions_around_the_load(tmp_path: Path) -> None:
    """pre_model_fn is called before the model is loaded, model_warmup_fn with the model before any request."""
    service = make(
        tmp_path,
        """
        calls = []
        def pre_model_fn(model_dir): calls.append(["pre", model_dir])
        def model_fn(model_dir): calls.append(["load", model_dir]); return lambda data: calls
        def model_warmup_fn(model_dir, model, context): calls.append(["warm", model(0) is calls, context.model_name])
        """,
    )
    loaded_in = service.context
    expected = [["pre", str(tmp_path)], ["load", str(tmp_path)], ["warm", True, "model"]]
    report = loaded_in.load_report
    assert json.loads(call(service, PLAIN)[0][0]) == expected
    pattern = r"code/inference\.py imported in \d+ ms, model_fn took \d+ ms, warmed up in \d+ ms"
    assert re.fullmatch(pattern, report)


def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """A model that is served without a program says where one was looked for: its name may have been mistaken."""
    service = Echo(Settings(program="infrence.py"))
    service.initialize(Context("model", str(tmp_path)))
    assert service.context.load_report.startswith("code/infrence.py is not there, load() took ")


@pytest.mark.parametrize("name", ["pre_model_fn", "model_warmup_fn"])
def test_errors_around_the_load_fail_it(tmp_path: Path, name: str) -> None:
    """What pre_model_fn or model_warmup_fn raises fails the load."""
    with pytest.raises(OSError, match="no licence"):
        make(tmp_path, f"def model_fn(d): return len\ndef {name}(*_): raise OSError('no licence')")


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


def test_a_form_is_415_and_nobody_looks_at_it() -> None:
    """A form has fields and no body; it is refused with the types that are supported, before it is decoded."""

    def fields() -> Iterator[Field]:
        raise AssertionError("the form was decoded")

    body, context = handle_raw(echo(), Form({"query": b"1"}, fields, lambda field: field.value))
    assert context.get_response_status(0)[0] == 415
    assert "application/json" in error_of(body)["message"]


def test_a_query_string_changes_nothing() -> None:
    """Parameters of the URL lie beside the body, and are left to handlers that want them."""
    assert handle_raw(echo(), {"verbose": b"1", "body": b"[1]"})[0] == b"[1]"


def test_a_body_that_was_decoded_already_is_refused_clearly(caplog: pytest.LogCaptureFixture) -> None:
    """An object in place of a body is a mistake of the server's configuration, and the log says so."""
    _, context = handle_raw(echo(), {"body": {"a": 1}})
    assert context.get_response_status(0)[0] == 500
    assert "body must be bytes, not dict" in caplog.text


# -- Hooks and overrides -----------------------------------------------------------------------------------------------


def test_hooks_replace_the_defaults(tmp_path: Path) -> None:
    """Each function of the program takes the place of its default, and gets the context if it wants it."""
    service = make(
        tmp_path,
        """
        def model_fn(model_dir): return "model"
        def input_fn(body, content_type): return [body.decode(), content_type]  # bytes, as a/b is no text
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
        (b"1", {"Content-Type": "image/gif"}, 415, "UnsupportedMediaTypeError", "Unsupported Media Type"),
        (b"[1]", {"Accept": "image/gif"}, 406, "NotAcceptableError", "Not Acceptable"),
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
    record = caplog.records[-1]
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
        if data == "exit":
            sys.exit("secret")
        if data == "cancelled":
            raise asyncio.CancelledError
        return data


def commanded(settings: Settings | None = None) -> Commanded:
    """A service that does as the request says, initialized."""
    service = Commanded(settings or Settings())
    service.initialize(Context("model", "/nowhere"))
    return service


def test_errors_are_per_item(caplog: pytest.LogCaptureFixture) -> None:
    """In a batch each request has its own status, type and error, and those without an error are answered."""
    commands = ["fine", "client", "server", "broken", "memory", "odd", "exit", "cancelled", "fine"]
    bodies, context = call(commanded(), *((json.dumps(each).encode(), {}) for each in commands))
    statuses = [context.get_response_status(place)[0] for place in range(len(commands))]
    assert statuses == [200, 422, 503, 500, 507, 499, 500, 500, 200]
    assert bodies[0] == bodies[8] == b'"fine"'
    messages = [error_of(body)["message"] for body in bodies[1:6]]
    assert messages[:2] == ["no such user", "come back later"]
    assert messages[4] == "an odd status"
    assert all(context.get_response_content_type(place) == JSON for place in range(len(commands)))


def test_a_person_may_interrupt() -> None:
    """Who tries a service by hand ends it with Ctrl-C."""
    service = echo()

    def interrupt(data: Any) -> Any:
        raise KeyboardInterrupt

    service.model = interrupt
    with pytest.raises(KeyboardInterrupt):
        call(service, PLAIN)


def test_the_record_of_a_failure_belongs_to_its_request(caplog: pytest.LogCaptureFixture) -> None:
    """In a batch the record of a request that failed carries that request's id, whichever came after it."""
    factory = logging.getLogRecordFactory()
    logs.install()
    try:
        call(commanded(), (b'"fine"', {}), (b'"broken"', {}), (b'"fine"', {}))
    finally:
        logging.setLogRecordFactory(factory)
        logs.belong_to(None)
    assert [vars(record)["sagemaker_request_id"] for record in caplog.records] == ["id-1"]


def test_an_error_s_body_is_described_as_what_it_is(tmp_path: Path) -> None:
    """What a function has said of its own body is not said of the error's; other headers are sent all the same."""
    service = make(
        tmp_path,
        """
        def model_fn(model_dir): return None
        def output_fn(prediction, accept, context):
            context.set_response_content_type(0, "image/gif")
            context.set_response_header(0, "Content-Encoding", "gzip")
            context.set_custom_attributes("trace=1")
            raise ValueError
        def predict_fn(data, model): return 1
        """,
    )
    _, context = call(service, PLAIN)
    name = "X-Amzn-SageMaker-Custom-Attributes"
    assert context.get_response_headers(0) == {"content-type": JSON, name: "trace=1"}


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


@pytest.mark.parametrize(("command", "status"), [(b'"broken"', 500), (b'"memory"', 507)])
def test_a_failure_alone_in_its_batch(command: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A request that is alone is answered as it is in a batch, and the log has its ids, the model's name and why."""
    headers = {"X-Amzn-SageMaker-Inference-Id": "mine-7"}
    bodies, context = call(commanded(), (command, headers))
    assert context.get_response_status(0)[0] == status
    (record,) = caplog.records
    message = record.getMessage()
    assert record.exc_info is not None
    assert f"request id-0 failed with status {status}" in message
    assert f"error id {error_of(bodies[0])['id']}, inference id mine-7: " in message


def test_the_service_goes_on_after_errors() -> None:
    """A request that failed leaves nothing behind for the next."""
    service = commanded()
    call(service, (b'"broken"', {}))
    call(service, (b'"client"', {}))
    bodies, context = call(service, (b'"fine"', {}))
    assert (bodies, context.get_response_status(0)[0]) == ([b'"fine"'], 200)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"a": "\xc3\xa9"}', JSON, '{"a": "é"}'),
        (b"\xef\xbb\xbf[1]", "application/json; charset=latin-1", "[1]"),
        (b"\xe9,1", "Text/CSV; charset=iso-8859-1", "é,1"),
        (b"\xef\xbb\xbfa,1", CSV, "a,1"),
        (b"\x93NUMPY", NPY, b"\x93NUMPY"),
        (b"a", "nonsense", b"a"),
        (b"[1]", "", "[1]"),
    ],
)
def test_functions_get_json_and_csv_as_text(
    tmp_path: Path, body: bytes, content_type: str, expected: str | bytes
) -> None:
    """As with AWS's toolkit input_fn gets text for JSON and CSV, and bytes for all else; the bytes are at hand."""
    program = """
        seen = []
        def model_fn(model_dir): return seen
        def input_fn(body, content_type, context): seen[:] = [body, context.raw_body]
        def predict_fn(data, model): return 0
    """
    service = make(tmp_path, program)
    call(service, (body, {"Content-Type": content_type}))
    assert service.model == [expected, body]


@pytest.mark.parametrize(("content_type", "status"), [(JSON, 400), (CSV, 400), ("text/csv; charset=klingon", 415)])
def test_text_that_is_none_is_refused_before_input_fn(tmp_path: Path, content_type: str, status: int) -> None:
    """A body that is not text in its charset is the client's mistake."""
    service = make(tmp_path, "def model_fn(d): return len\ndef input_fn(body, content_type): raise AssertionError")
    _, context = call(service, (b"\xff\xfe", {"Content-Type": content_type}))
    assert context.get_response_status(0)[0] == status


def test_what_input_fn_gets_can_be_decoded(tmp_path: Path) -> None:
    """The text that input_fn gets goes through codecs.decode as the bytes would."""
    service = make(
        tmp_path,
        """
        from sagemaker_inference_lite import codecs
        def model_fn(model_dir): return lambda data: data
        def input_fn(body, content_type): return codecs.decode(body, content_type)
        """,
    )
    bodies, _ = call(service, (b"[1]", {}), (b"\xe9", {"Content-Type": "text/csv; charset=iso-8859-1"}))
    assert bodies == [b"[1]", '[["é"]]'.encode()]


# -- transform_fn ------------------------------------------------------------------------------------------------------


def test_transform_fn_does_it_all(tmp_path: Path) -> None:
    """It gets the model, the body as input_fn would, both types and the context; its answer is like output_fn's."""
    service = make(
        tmp_path,
        """
        def model_fn(model_dir): return "model"
        def transform_fn(model, body, content_type, accept, context):
            if body == "[]": raise ValueError("empty")
            return [model, body, content_type, accept, context.request_id]
        """,
    )
    bodies, context = call(service, (b"[1]", {"Accept": "*/*"}), (b"[]", {}), (b"[2]", {"Accept": JSON}))
    assert json.loads(bodies[0]) == ["model", "[1]", JSON, JSON, "id-0"]
    assert json.loads(bodies[2])[-1] == "id-2"
    assert [context.get_response_status(place)[0] for place in range(3)] == [200, 500, 200]


def test_transform_fn_takes_the_place_of_overridden_methods_too(tmp_path: Path) -> None:
    """A model that does it all does it with any handler service, one that answers batches included."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("def transform_fn(model, body, *types): return body")
    service = Batch(Settings())
    service.initialize(Context("model", str(tmp_path)))
    assert call(service, PLAIN, (b"[3]", {}))[0] == [b"[1, 2]", b"[3]"]


# -- Batches -----------------------------------------------------------------------------------------------------------


BATCH = """
    calls = []
    def model_fn(model_dir): return calls
    def predict_batch_fn(data, model, context):
        calls.append(len(data))
        return [[int(each.sum()), context.get_request_id(place)] for place, each in enumerate(data)]
"""


def test_a_batch_is_one_call(tmp_path: Path) -> None:
    """predict_batch_fn is called once with the inputs of all requests, each of its own type, and answers each."""
    service = make(tmp_path, BATCH)
    requests: list[Request] = [(b"[1,2]", {}), (b"3,4\n", {"Content-Type": CSV}), (b"[5]", {"Accept": CSV})]
    bodies, context = call(service, *requests)
    assert bodies == [b'[3,"id-0"]', b'[7,"id-1"]', b"5\nid-2\n"]
    assert [context.get_response_content_type(place) for place in range(3)] == [JSON, JSON, CSV]
    assert service.model == [3]
    assert call(service, PLAIN)[0] == [b'[3,"id-0"]']
    assert service.model == [3, 1]


def test_requests_that_cannot_be_read_are_not_in_the_batch(tmp_path: Path) -> None:
    """A request that preprocess refused has its own error; the context of the call counts the others only."""
    service = make(tmp_path, BATCH)
    bodies, context = call(service, (b"[1", {}), (b"[2]", {}), (b"x", {"Content-Type": "a/b"}), (b"[3]", {}))
    assert [context.get_response_status(place)[0] for place in range(4)] == [400, 200, 415, 200]
    assert (bodies[1], bodies[3]) == (b'[2,"id-1"]', b'[3,"id-3"]')
    assert service.model == [2]
    call(service, (b"[", {}))
    assert service.model == [2]


class Batch(Echo):
    """A service whose batches are answered as the test says."""

    answer: Any = None

    def predict_batch(self, data: list[Any], model: Any) -> Any:
        """What the test says."""
        return self.answer(data)


def batch(answer: Any) -> Batch:
    """Such a service, initialized."""
    service = Batch(Settings())
    service.answer = answer
    service.initialize(Context("model", "/nowhere"))
    return service


def test_a_subclass_may_answer_batches() -> None:
    """An overridden predict_batch gets the whole batch; an array has one prediction a row."""
    bodies, _ = call(batch(lambda data: np.concatenate(data).reshape(-1, 1) * 2), (b"[1]", {}), (b"[2]", {}))
    assert bodies == [b"[2]", b"[4]"]


def test_an_exception_in_place_of_a_prediction_is_one_request_s() -> None:
    """An element that is an exception is the error of its request alone."""
    bodies, context = call(batch(lambda data: [1, ClientError(422, "too short"), 3]), PLAIN, PLAIN, PLAIN)
    assert [context.get_response_status(place)[0] for place in range(3)] == [200, 422, 200]
    assert error_of(bodies[1])["message"] == "too short"


def test_an_error_of_the_whole_batch_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where predict_batch raises, all its requests fail with one error id, and the log has one record for them."""

    def fail(data: Any) -> Any:
        raise RuntimeError("secret")

    bodies, context = call(batch(fail), PLAIN, (b"[", {}), PLAIN)
    assert [context.get_response_status(place)[0] for place in range(3)] == [500, 400, 500]
    assert error_of(bodies[0])["id"] == error_of(bodies[2])["id"] != error_of(bodies[1])["id"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "request id-0, id-2 failed" in record.getMessage()


class Table:
    """What tables of several libraries have in common: as many as they have rows, they give columns."""

    columns = ("label", "score")

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize(
    "answer",
    [[1], [1, 2, 3], "ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), {"a": 1, "b": 2}, {1, 2}, Table(), None, 7],
)
def test_a_batch_needs_as_many_answers(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Anything but a sequence of as many predictions is a failure that says what was found."""
    _, context = call(batch(lambda data: answer), PLAIN, PLAIN)
    assert [context.get_response_status(place)[0] for place in range(2)] == [500, 500]
    assert "a batch of 2 must be answered with a sequence of as many" in caplog.text


def test_each_request_of_a_batch_has_its_own_context(tmp_path: Path) -> None:
    """Functions see the headers, the body and the id of their own request, and set the status and headers of it."""
    service = make(
        tmp_path,
        """
        def model_fn(model_dir): return None
        def predict_fn(data, model, context):
            context.set_custom_attributes("of " + context.request_id)
            context.set_response_status(201 + int(data[0]), "Made")
            return [context.custom_attributes, context.raw_body.decode(), context.get_request_header(0, "X-A")]
        """,
    )
    name = "X-Amzn-SageMaker-Custom-Attributes"
    bodies, context = call(service, (b"[0]", {name: "a", "X-A": "1"}), (b"[1]", {name: "b", "X-A": "2"}))
    assert [json.loads(body) for body in bodies] == [["a", "[0]", "1"], ["b", "[1]", "2"]]
    assert [context.get_response_status(place)[0] for place in range(2)] == [201, 202]
    assert [context.get_response_headers(place)[name] for place in range(2)] == ["of id-0", "of id-1"]


def test_a_content_type_that_a_function_has_set_is_kept(tmp_path: Path) -> None:
    """A function may say on the context what its bytes are."""
    program = """
        def model_fn(model_dir): return None
        def predict_fn(data, model, context):
            context.set_response_content_type(0, "image/gif")
        def output_fn(prediction, accept): return b"GIF89a"
    """
    for said in ("set_response_content_type(0", 'set_response_header(0, "Content-Type"'):
        bodies, context = call(make(tmp_path, program.replace("set_response_content_type(0", said)), PLAIN)
        assert (bodies, context.get_response_content_type(0)) == ([b"GIF89a"], "image/gif")


# -- What is no answer -------------------------------------------------------------------------------------------------


STREAMS = {
    "a generator": "return (token for token in 'abc')",
    "a generator function": "yield 1",
    "an iterator": "return iter([1, 2])",
    "an asynchronous generator": "async def tokens(): yield 1\n    return tokens()",
}


@pytest.mark.parametrize("place", ["predict_fn", "output_fn", "transform_fn", "predict_batch_fn"])
@pytest.mark.parametrize("stream", STREAMS)
def test_streaming_is_refused_clearly(tmp_path: Path, place: str, stream: str) -> None:
    """A result that is yet to be computed is answered 500, and the caller is told that there is no streaming."""
    program = f"def model_fn(d): return len\ndef {place}(*arguments):\n    {STREAMS[stream]}\n"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(program)
    bodies, context = call(make(tmp_path), PLAIN)
    assert context.get_response_status(0)[0] == 500
    assert "Streaming is not available on this engine" in error_of(bodies[0])["message"]


def test_output_fn_may_use_up_a_generator(tmp_path: Path) -> None:
    """Between the functions of a program anything may be passed on."""
    program = """
        def model_fn(model_dir): return None
        def predict_fn(data, model): return (str(each) for each in data)
        def output_fn(prediction, accept): return " ".join(prediction)
    """
    assert call(make(tmp_path, program), PLAIN)[0] == [b"1 2"]


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_coroutine_is_refused_clearly() -> None:
    """Nobody waits for a coroutine here, and the caller is told that functions must not be async."""

    async def later() -> int:
        return 1

    service = echo()
    service.model = lambda data: later()
    bodies, _ = call(service, PLAIN)
    assert "must not be async" in error_of(bodies[0])["message"]


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
