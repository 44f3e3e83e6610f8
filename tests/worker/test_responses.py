# SPDX-License-Identifier: Apache-2.0
"""Whatever a handler does with a request is answered, and the answer says what the caller may know."""

from __future__ import annotations

import array
import json
import logging
from typing import Any, Callable

import mms.service
import pytest
from front_end_codec import Prediction, encode_headers, predictions_of

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import ClientError, RequestError, ServerError, UnsupportedMediaTypeError, WireError
from sagemaker_inference_lite.handlers import forms
from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.worker.responses import AnswerOptions, answer, refusal

OPTIONS = AnswerOptions(max_body_bytes=1 << 20)
SECRET = "a secret of the model's"
INTERNAL = "The model failed to handle the request; its log has the cause under this id."

Handle = Callable[[Any, Context], Any]


def request_of(body: bytes = b"1,2", number: int = 0, **headers: str) -> wire.Request:
    """A request with a body of CSV."""
    return wire.Request(f"id-{number}", encode_headers(headers.items()), [wire.Parameter("body", "text/csv", body)])


def answers_of(handle: Handle, *requests: wire.Request, options: AnswerOptions = OPTIONS) -> list[Prediction]:
    """What the front end reads in the answer to a batch, one request where none is given."""
    requests = requests or (request_of(),)
    predictions = predictions_of(answer(handle, Context("m", "/m", batch_size=len(requests)), requests, options))
    assert len(predictions) == len(requests)
    return predictions


def answer_of(handle: Handle, options: AnswerOptions = OPTIONS) -> Prediction:
    """The answer to one request."""
    (prediction,) = answers_of(handle, options=options)
    return prediction


def raising(error: BaseException) -> Handle:
    """A handler that fails so."""

    def handle(data: Any, context: Context) -> Any:
        raise error

    return handle


def returning(*results: Any) -> Handle:
    """A handler that returns these answers."""
    return lambda data, context: list(results)


def error_of(prediction: Prediction) -> dict[str, Any]:
    """What the caller reads of a failure."""
    assert prediction.content_type == "application/json"
    error: dict[str, Any] = json.loads(prediction.body)["error"]
    return error


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "body", "content_type"),
    [
        (b"\0\1", b"\0\1", ""),
        (bytearray(b"ab"), b"ab", ""),
        (memoryview(b"abcd")[::2], b"ac", ""),
        (memoryview(array.array("H", [1, 1])), b"\1\0\1\0", ""),
        ("é", "é".encode(), ""),
        ({"a": [1, None]}, b'{"a": [1, null]}', "application/json"),
        ([1.5], b"[1.5]", "application/json"),
        (None, b"null", "application/json"),
        ("", b"", ""),
    ],
)
def test_bodies(result: Any, body: bytes, content_type: str) -> None:
    """Bytes and text are sent as they are, everything else as JSON, as in MMS."""
    found = answer_of(returning(result))
    assert (found.status, found.headers) == (200, {})
    assert (found.body, found.content_type) == (body, content_type)


def test_what_a_handler_sees() -> None:
    """A handler gets each request's inputs as a dict of bytes, and the inputs' types among the headers."""
    seen: list[Any] = []

    def handle(data: Any, context: Context) -> Any:
        seen.append((data, context.get_all_request_header(0), context.raw_body, context.request_id))
        return [b""]

    parameters = [wire.Parameter("limit", "", b"5"), wire.Parameter("body", "text/csv", b"1,2")]
    answers_of(handle, wire.Request("id", encode_headers([("Accept", "*/*")]), parameters))
    headers = {"body": {"content-type": "text/csv"}, "Accept": "*/*"}
    assert seen == [([{"limit": b"5", "body": b"1,2"}], headers, b"1,2", "id")]


def test_the_raw_body_is_not_a_parameter_of_its_name() -> None:
    """Of a query parameter that is called body, and the body, handlers get the body."""
    request = wire.Request("id", b"", [wire.Parameter("body", "", b"query"), wire.Parameter("body", "text/csv", b"1")])
    (found,) = answers_of(lambda data, context: [context.raw_body + b" " + data[0]["body"]], request)
    assert found.body == b"1 1"


def test_headers_are_read_when_they_are_asked_for() -> None:
    """Of headers that cannot be read a handler that asks for none knows nothing; one that does cannot go on."""
    request = request_of()._replace(raw_headers=b"\xff")
    (found,) = answers_of(returning(b"fine"), request)
    assert (found.status, found.body) == (200, b"fine")
    with pytest.raises(WireError, match="headers that cannot be read"):
        answers_of(lambda data, context: [context.get_request_header(0, "Accept")], request)


def test_a_body_is_not_copied() -> None:
    """A handler's bytes are sent from where they lie."""
    body = b"x" * 1000
    assert answer(returning(body), Context("m", "/m"), [request_of()], OPTIONS)[-1] is body


FORM_TYPE = 'multipart/form-data; boundary="XX"'
FILE = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: %b\r\n\r\n%b\r\n--XX--\r\n'


def form_of(body: bytes, content_type: str) -> wire.Request:
    """A request with a query parameter, and a form for its body."""
    bare = content_type.partition(";")[0]
    parameters = [wire.Parameter("limit", "", b"5"), wire.Parameter("body", bare, body)]
    return wire.Request("id", encode_headers([("Content-Type", content_type)]), parameters)


@pytest.mark.parametrize("content_type", [forms.URL_ENCODED, forms.URL_ENCODED.title() + "; charset=utf-8"])
def test_a_form_is_its_fields(content_type: str) -> None:
    """A handler sees the fields of a form in place of a body, beside the query's parameters; the body is there too."""
    request = form_of(b"a=1&b=%C3%A9", content_type)
    (found,) = answers_of(lambda data, context: [repr(data[0]) + repr(context.raw_body)], request)
    assert found.body.decode() == repr({"limit": b"5", "a": b"1", "b": "é".encode()}) + repr(b"a=1&b=%C3%A9")


@pytest.mark.parametrize("headers_first", [True, False])
def test_headers_name_the_types_of_files(headers_first: bool) -> None:
    """The content type of a file stands among the headers under its name, as MMS shows it."""

    def handle(data: Any, context: Context) -> list[str]:
        assert not headers_first or context.get_request_header(0, "Content-Type") == FORM_TYPE
        return [repr((data[0]["file"], context.get_request_header(0, "file"), "body" in data[0]))]

    (found,) = answers_of(handle, form_of(FILE % (b"image/png", b"\0\r\n"), FORM_TYPE))
    assert found.body.decode() == repr((b"\0\r\n", {"content-type": "image/png"}, False))


def test_multipart_without_a_boundary_is_a_body() -> None:
    """What cannot be taken apart at all stays as it came."""
    request = form_of(b"--XX", "multipart/form-data")
    (found,) = answers_of(lambda data, context: [data[0]["body"]], request)
    assert found.body == b"--XX"


def test_decoded_fields() -> None:
    """With MMS's decode_input_request a file of JSON is parsed like a body."""
    request = form_of(FILE % (b"application/json", b"[1]"), FORM_TYPE)
    options = OPTIONS._replace(decode_input=True)
    (found,) = answers_of(lambda data, _: [repr(data[0]["file"])], request, options=options)
    assert found.body == b"[1]"


def test_a_form_that_nobody_looks_at_is_not_decoded() -> None:
    """More fields than are taken are no mistake where they are not asked for, and 400 where they are."""
    request = form_of(b"a&" * forms.MAX_FIELDS, forms.URL_ENCODED)
    (found,) = answers_of(lambda data, context: [str(context.get_request_header(0, "X"))], request)
    assert (found.status, found.body) == (200, b"None")
    (found,) = answers_of(lambda data, context: [data[0].get("a")], request)
    assert found.status == 400
    assert "more than 1000 fields" in error_of(found)["message"]


def test_decoded_input() -> None:
    """With MMS's decode_input_request a handler gets JSON parsed and text decoded, and the rest as bytes."""
    parameters = [
        wire.Parameter("a", "application/json", b'{"x": [1]}'),
        wire.Parameter("b", "text/csv", "é".encode()),
        wire.Parameter("c", "application/x-npy", b"\x93"),
    ]
    options = OPTIONS._replace(decode_input=True)
    (found,) = answers_of(lambda data, _: [repr(data[0])], wire.Request("id", b"", parameters), options=options)
    assert found.body.decode() == repr({"a": {"x": [1]}, "b": "é", "c": b"\x93"})


@pytest.mark.parametrize(("content_type", "body"), [("application/json", b"{"), ("text/plain", b"\xff")])
def test_input_that_cannot_be_decoded(content_type: str, body: bytes) -> None:
    """There, what cannot be decoded is an answer as well."""
    request = wire.Request("id", b"", [wire.Parameter("body", content_type, body)])
    (found,) = answers_of(returning(b""), request, options=OPTIONS._replace(decode_input=True))
    assert found.status >= 400


def test_status_and_headers() -> None:
    """What a handler sets on the context is sent: status, content type and headers."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_status(404, "My Own Phrase")
        context.set_response_header(0, "Content-Type", "text/csv")
        context.set_response_header(0, "X-Count", "3")
        return [{"a": 1}]

    found = answer_of(handle)
    assert (found.status, found.content_type) == (404, "text/csv")
    assert found.headers == {"X-Count": "3"}


def test_headers_cannot_be_forged() -> None:
    """Neither a header, its name nor the content type can begin a line of its own."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_content_type(0, "text/csv\r\nSet-Cookie: a=b")
        context.set_response_header(0, "X-A\nX-B: 1", "1\r\n\r\nbody")
        return [b""]

    found = answer_of(handle)
    texts = [found.content_type, *found.headers, *found.headers.values()]
    assert not [text for text in texts if "\r" in text or "\n" in text]


@pytest.mark.parametrize("status", [99, 0, -1, 600, 1000])
def test_statuses_that_http_does_not_know(status: int) -> None:
    """A status that a handler made up becomes 500."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_status(status)
        return [b""]

    assert answer_of(handle).status == 500


def test_batch() -> None:
    """Each request of a batch gets its own answer, status and headers, in its place."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_status(201, idx=1)
        context.set_response_header(2, "X-Last", "1")
        return [item["body"] for item in data]

    found = answers_of(handle, *(request_of(b"body %d" % number, number) for number in range(3)))
    assert [each.body for each in found] == [b"body 0", b"body 1", b"body 2"]
    assert [each.status for each in found] == [200, 201, 200]
    assert [each.headers for each in found] == [{}, {}, {"X-Last": "1"}]


def test_nothing_is_left_for_the_next_request() -> None:
    """What a handler set for one request is not part of the answer to the next."""
    context = Context("m", "/m")

    def handle(data: Any, context: Context) -> Any:
        if data[0]["body"] == b"first":
            context.set_response_status(503)
            context.set_response_header(0, "X-A", "1")
        return [b""]

    frames = [answer(handle, context, [request_of(body)], OPTIONS) for body in (b"first", b"second")]
    first, second = (predictions_of(frame)[0] for frame in frames)
    assert (first.status, first.headers) == (503, {"X-A": "1"})
    assert (second.status, second.headers) == (200, {})


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "type_name"),
    [
        (ClientError(400, "The body is empty."), 400, "ClientError"),
        (ClientError(499, "é\n"), 499, "ClientError"),
        (UnsupportedMediaTypeError("No text/x."), 415, "UnsupportedMediaTypeError"),
        (ServerError(503, "The index is being rebuilt."), 503, "ServerError"),
        (mms.service.PredictionException("Too short.", 413), 413, "PredictionException"),
        (mms.service.PredictionException("Failed."), 500, "PredictionException"),
        (mms.service.PredictionException("Failed.", "teapot"), 500, "PredictionException"),
    ],
    ids=repr,
)
def test_errors_written_for_callers(error: Any, status: int, type_name: str) -> None:
    """An error that a handler raises for the caller has its status and its message."""
    found = answer_of(raising(error))
    assert found.status == status
    assert error_of(found).items() >= {"type": type_name, "message": error.message}.items()


@pytest.mark.parametrize(
    ("error", "status", "type_name"),
    [
        (ValueError(SECRET), 500, "InternalError"),
        (KeyError(SECRET), 500, "InternalError"),
        (RecursionError(SECRET), 500, "InternalError"),
        (SystemExit(SECRET), 500, "InternalError"),
        (KeyboardInterrupt(SECRET), 500, "InternalError"),
        (GeneratorExit(SECRET), 500, "InternalError"),
        (MemoryError(SECRET), 507, "OutOfMemory"),
        (RuntimeError(f"CUDA out of memory. {SECRET}"), 507, "OutOfMemory"),
        (OSError(12, SECRET), 507, "OutOfMemory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_any_kind(
    error: BaseException, status: int, type_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of any other error, one that would end the process among them, the caller learns nothing and the log all."""
    found = answer_of(raising(error))
    assert (found.status, error_of(found)["type"]) == (status, type_name)
    assert SECRET.encode() not in found.body
    assert error_of(found)["id"] in caplog.text
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


def test_the_caller_s_mistakes_need_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log joins a mistake of the caller's to its request in one line, and calls it no error of ours."""
    caplog.set_level(logging.INFO)
    found = answer_of(raising(ClientError(422, "No such column.")))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "Traceback" not in caplog.text
    for text in ("id-0", "422", error_of(found)["id"], "ClientError: No such column."):
        assert text in record.getMessage()


def test_tracebacks_for_development() -> None:
    """Callers see tracebacks where that was asked for, and only there."""
    assert "traceback" not in error_of(answer_of(raising(ValueError(SECRET))))
    found = answer_of(raising(ValueError(SECRET)), OPTIONS._replace(expose_tracebacks=True))
    assert f"ValueError: {SECRET}" in error_of(found)["traceback"]


def test_a_failure_is_the_whole_batch_s() -> None:
    """A handler that fails has failed for every request of its batch, under one id."""
    found = answers_of(raising(ValueError()), request_of(number=0), request_of(number=1))
    assert [each.status for each in found] == [500, 500]
    assert len({error_of(each)["id"] for each in found}) == 1


def test_what_was_set_before_a_failure_is_not_sent() -> None:
    """The status, type and headers that a handler set before it failed are not those of the failure."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_status(200)
        context.set_response_content_type(0, "text/csv")
        context.set_response_header(0, "X-A", "1")
        raise ValueError

    found = answer_of(handle)
    assert (found.status, found.content_type, found.headers) == (500, "application/json", {})


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        ([], "not 0 answers"),
        ([1, 2], "not 2 answers"),
        (None, "not a NoneType"),
        ("x", "not a str"),
        ({"a": 1}, "not a dict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_not_one_answer_for_each_request(result: Any, complaint: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is no list with an answer for each request is a failure, and the log says what it is instead."""
    found = answer_of(lambda data, context: result)
    assert (found.status, error_of(found)["message"]) == (500, INTERNAL)
    assert "a list with one answer for each of 1 requests" in caplog.text
    assert complaint in caplog.text


def tokens(data: Any, context: Context) -> Any:
    """A handler that means to stream."""
    yield b"token"


@pytest.mark.parametrize("handle", [tokens, returning(each for each in "ab"), returning(iter([1]))])
def test_streaming_is_refused_clearly(handle: Handle) -> None:
    """An answer that is yet to be computed is a failure, and the caller is told that there is no streaming."""
    found = answer_of(handle)
    assert (found.status, error_of(found)["type"]) == (500, "ServerError")
    assert "Streaming is not available on this engine" in error_of(found)["message"]


def test_a_tuple_of_answers() -> None:
    """Answers may come as a tuple."""
    assert answer_of(lambda data, context: (b"x",)).body == b"x"


def test_an_answer_that_is_no_json(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written as JSON is a failure."""
    assert answer_of(returning({1, 2})).status == 500
    assert "set is not JSON serializable" in caplog.text


def test_a_large_answer(caplog: pytest.LogCaptureFixture) -> None:
    """An answer may be as large as the limit; the front end would drop the connection for one byte more."""
    options = AnswerOptions(max_body_bytes=1000)
    assert answer_of(returning(bytes(1000)), options).body == bytes(1000)
    found = answer_of(returning(bytes(1001)), options)
    assert found.status == 500
    assert "the answer has 1001 bytes; the limit is 1000 (SAGEMAKER_MAX_PAYLOAD_IN_MB)" in caplog.text


def test_large_headers(caplog: pytest.LogCaptureFixture) -> None:
    """Headers that the front end could not read are a failure."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_header(0, "X-Long", "x" * wire.MAX_HEADER_BYTES)
        return [b""]

    assert answer_of(handle).status == 500
    assert f"the limit is {wire.MAX_HEADER_BYTES}" in caplog.text


def test_one_answer_of_a_batch_that_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that is too large, has too many headers, or cannot be encoded fails its own request alone."""

    def handle(data: Any, context: Context) -> Any:
        context.set_response_header(1, "X-Long", "x" * wire.MAX_HEADER_BYTES)
        return [bytes(1001), b"", "\ud800", {1, 2}, b"fine"]

    requests = [request_of(number=number) for number in range(5)]
    found = answers_of(handle, *requests, options=AnswerOptions(max_body_bytes=1000))
    assert [each.status for each in found] == [500, 500, 500, 500, 200]
    assert found[4].body == b"fine"
    assert len({error_of(each)["id"] for each in found[:4]}) == 4
    assert [record.getMessage()[:12] for record in caplog.records] == [
        f"request id-{number}"[:12] for number in range(4)
    ]


@pytest.mark.parametrize("expose_tracebacks", [True, False])
def test_a_large_failure(expose_tracebacks: bool) -> None:
    """A message that quotes a whole request does not make the answer larger than it may be; its beginning is sent."""
    options = AnswerOptions(max_body_bytes=4096, expose_tracebacks=expose_tracebacks)
    found = answer_of(raising(ClientError(400, "Cannot read this: " + "é" * 5000)), options)
    assert len(found.body) <= 4096
    assert error_of(found)["message"].startswith("Cannot read this: ééé")
    assert error_of(found)["id"]


class UnspeakableError(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    "error",
    [
        UnspeakableError(),
        ClientError(400, b"bytes"),  # type: ignore[arg-type]  # handlers are not type-checked
        ClientError(400, ValueError("an error for a message")),  # type: ignore[arg-type]
        ClientError(400, "\ud800"),
        RequestError(99999, "A status of no kind."),
        RequestError("400", "A status that is no number."),  # type: ignore[arg-type]
        mms.service.PredictionException(None, None),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("expose_tracebacks", [True, False])
def test_errors_that_are_broken_themselves(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, expose_tracebacks: bool
) -> None:
    """Whatever is wrong with an error, its request is answered."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # what cannot be logged is not the subject
    found = answer_of(raising(error), OPTIONS._replace(expose_tracebacks=expose_tracebacks))
    assert 400 <= found.status <= 599
    assert isinstance(error_of(found)["message"], str)


def test_refusal() -> None:
    """A refusal answers every request with the same status and body."""
    found = predictions_of(refusal(2, 503, b"{}"))
    assert found == [Prediction("application/json", 503, {}, b"{}")] * 2
