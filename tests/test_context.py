# SPDX-License-Identifier: Apache-2.0
"""The context: MMS's interface as MMS has it, and the attributes beside it."""

from __future__ import annotations

import inspect
from typing import Any

import mms.context
import pytest

from sagemaker_inference_lite.context import CUSTOM_ATTRIBUTES, INFERENCE_ID, TARGET_MODEL, Context, Headers
from sagemaker_inference_lite.context import RequestProcessor as OurRequestProcessor

HEADERS = {"Accept": "text/csv", "x-Custom": "1", "body": {"content-type": "text/csv"}}


def context_of(*headers: dict[str, Any]) -> Context:
    """A context in the middle of a batch, with a request for each of these headers."""
    context = Context("model", "/opt/ml/model", None, len(headers), None)
    context.begin((f"id-{place}", each, b"body-%d" % place) for place, each in enumerate(headers))
    return context


def theirs_of(*headers: dict[str, Any]) -> Any:
    """MMS's own context at the same place."""
    context = mms.context.Context("model", "/opt/ml/model", None, len(headers), None, "1.1.11")
    context.request_ids = {place: f"id-{place}" for place in range(len(headers))}
    context.request_processor = [mms.context.RequestProcessor(dict(each)) for each in headers]
    return context


def both_of(*headers: dict[str, Any]) -> tuple[Any, Any]:
    """Our context and MMS's."""
    return context_of(*headers), theirs_of(*headers)


def public(member: Any) -> set[str]:
    """The names that are not private."""
    return {name for name in dir(member) if not name.startswith("_")}


def arguments_of(function: Any) -> list[tuple[str, Any]]:
    """The names and defaults of a function's arguments."""
    return [(each.name, each.default) for each in inspect.signature(function).parameters.values()]


# -- as MMS has it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Context, mms.context.Context), (OurRequestProcessor, mms.context.RequestProcessor)],
    ids=["context", "processor"],
)
def test_interface(ours: Any, theirs: Any) -> None:
    """All that MMS's classes have is there, and takes the same arguments under the same names and defaults."""
    assert public(theirs) <= public(ours)
    for name in public(theirs):
        if inspect.isfunction(getattr(theirs, name)):
            parameters = inspect.signature(getattr(ours, name)).parameters.values()
            expected = inspect.signature(getattr(theirs, name)).parameters.values()
            assert [(each.name, each.default) for each in parameters] == [
                (each.name, each.default) for each in expected
            ]


def test_system_properties() -> None:
    """The properties have MMS's names, and MMS's name for the server, by which handlers know it."""
    ours = Context("model", "/opt/ml/model", {"a": 1}, 4, 2)
    theirs = mms.context.Context("model", "/opt/ml/model", {"a": 1}, 4, 2, "1.1.11")
    version = {"server_version": "any"}
    assert {**ours.system_properties, **version} == {**theirs.system_properties, **version}
    assert ours.system_properties["server_name"] == "MMS"
    assert (ours.model_name, ours.manifest, ours.gpu_id) == ("model", {"a": 1}, 2)


def test_requests_are_read_alike() -> None:
    """Ids and headers are found as in MMS."""
    for context in both_of(HEADERS, {}):
        assert [context.get_request_id(0), context.get_request_id(1), context.get_request_id(2)] == [
            "id-0",
            "id-1",
            None,
        ]
        assert context.get_request_id() == "id-0"
        assert context.get_request_header(0, "Accept") == "text/csv"
        assert context.get_request_header(0, "body") == {"content-type": "text/csv"}
        assert context.get_request_header(1, "Accept") is None
        assert context.get_all_request_header(0) == HEADERS
        assert context.request_processor[0].get_request_property("Accept") == "text/csv"
        assert context.request_processor[0].get_request_properties() == HEADERS


def test_answers_are_written_alike() -> None:
    """Statuses, phrases, headers and content types are kept for each request as in MMS."""
    for context in both_of({}, {}, {}):
        context.set_all_response_status(201, "Created")
        context.set_response_status(404, "Gone", 1)
        context.request_processor[2].report_status(500)
        context.set_response_header(0, "X-A", "1")
        context.set_response_content_type(0, "text/csv")
        context.request_processor[1].add_response_property("X-B", "2")
        assert [context.get_response_status(place) for place in range(3)] == [
            (201, "Created"),
            (404, "Gone"),
            (500, None),
        ]
        assert context.get_response_headers(0) == {"X-A": "1", "content-type": "text/csv"}
        assert context.get_response_content_type(0) == "text/csv"
        assert context.get_response_content_type(1) is None
        assert context.request_processor[1].get_response_header("X-B") == "2"
        assert context.request_processor[1].get_response_header("X-A") is None


def test_before_anybody_has_said_anything() -> None:
    """An answer's status is 200 with no phrase, and it has no headers."""
    for context in both_of({}):
        assert context.get_response_status(0) == (200, None)
        assert context.get_response_headers(0) == {}


def test_while_the_model_loads() -> None:
    """Without a request there is nothing to read; a status set by a handler that does not look is passed over."""
    for context in (Context("model", "/m"), mms.context.Context("model", "/m", None, 1, None, "1.1.11")):
        assert context.request_processor is None
        assert context.request_ids is None
        context.set_response_status(200, "OK")
    context = Context("model", "/m")
    context.set_all_response_status(200)
    assert [context.request_id, context.get_request_id(), context.raw_body, context.gpu_id] == [None] * 4
    assert [context.custom_attributes, context.target_model, context.inference_id] == [None] * 3
    with pytest.raises(RuntimeError, match="no request while the model loads"):
        context.get_request_header(0, "Accept")


def test_metrics() -> None:
    """A handler may add to MMS's metrics, of which each batch has its own."""
    context = context_of({})
    store = context.metrics
    store.add_time("Preprocess", 1.5)
    assert store is context.metrics
    context.begin([("id", {}, None)])
    assert context.metrics is not store
    context.metrics = None
    assert context.metrics is not None


# -- beside it --------------------------------------------------------------------------------------------------------


def test_attributes() -> None:
    """The platform's headers, the id and the raw body of the first request are attributes."""
    first = {CUSTOM_ATTRIBUTES.lower(): "c", TARGET_MODEL: "t", INFERENCE_ID.upper(): "i"}
    context = context_of(first, {})
    assert (context.custom_attributes, context.target_model, context.inference_id) == ("c", "t", "i")
    assert (context.request_id, context.raw_body) == ("id-0", b"body-0")
    context = context_of({})
    assert (context.custom_attributes, context.target_model, context.inference_id) == (None, None, None)


def test_nothing_is_left_of_the_last_batch() -> None:
    """A new batch begins with nothing of the one before: neither its requests nor what was set for its answers."""
    context = context_of({"Accept": "text/csv", CUSTOM_ATTRIBUTES: "c"}, {})
    context.set_all_response_status(500, "bad")
    context.set_response_header(0, "X-A", "1")
    context.begin([("id-9", {}, None)])
    assert context.request_ids == {0: "id-9"}
    assert context.get_response_status(0) == (200, None)
    assert context.get_response_headers(0) == {}
    assert (context.custom_attributes, context.raw_body) == (None, None)
    with pytest.raises(IndexError):
        context.get_request_header(1, "Accept")


def test_headers_may_be_made_when_they_are_asked_for() -> None:
    """A function that gives headers is called once, by whoever asks first, and not where nobody does."""
    made: list[str] = []

    def headers_of(name: str) -> Headers:
        made.append(name)
        return Headers({CUSTOM_ATTRIBUTES: name})

    context = Context("model", "/m")
    context.begin([("id-0", lambda: headers_of("first"), b""), ("id-1", lambda: headers_of("second"), b"")])
    context.set_response_header(0, "X-A", "1")
    assert (context.request_id, context.raw_body, context.get_response_status(1)) == ("id-0", b"", (200, None))
    assert made == []
    assert context.custom_attributes == context.get_request_header(0, CUSTOM_ATTRIBUTES.lower()) == "first"
    assert context.for_requests([0]).get_all_request_header(0) is context.get_all_request_header(0)
    assert made == ["first"]
    assert context.for_requests([1]).custom_attributes == "second"
    assert context.get_request_header(1, CUSTOM_ATTRIBUTES) == "second"
    assert made == ["first", "second"]


def test_an_empty_batch() -> None:
    """A batch of nothing has no first request."""
    context = context_of()
    assert context.request_id is None
    assert context.raw_body is None
    assert context.request_processor == []


@pytest.mark.parametrize("key", ["x-custom", "X-CUSTOM", "x-Custom"])
def test_headers_in_any_case(key: str) -> None:
    """A header is found in any case, by every way of looking."""
    headers = context_of(HEADERS).get_all_request_header(0)
    assert headers[key] == headers.get(key) == "1"
    assert key in headers
    assert context_of(HEADERS).get_request_header(0, key) == "1"


def test_headers_that_are_not_there() -> None:
    """What is not there is a KeyError, or the default, as in any dict."""
    headers = Headers(HEADERS)
    with pytest.raises(KeyError):
        headers["x-other"]
    assert headers.get("x-other") is None
    assert headers.get("x-other", 3) == 3
    for absent in ("x-other", 7, None):
        assert absent not in headers
        assert headers.get(absent) is None  # type: ignore[arg-type]  # handlers are not type-checked


def test_headers_keep_their_names() -> None:
    """The names stand as the client sent them; of two that differ in case only, each is found by its own."""
    headers = Headers({"Accept": "a", "accept": "b"})
    assert list(headers) == ["Accept", "accept"]
    assert (headers["Accept"], headers["accept"]) == ("a", "b")


@pytest.mark.parametrize("mark", ["\r\n", "\n", "\r", "\0", "\v", "\f", "\x1b", "\x7f"])
def test_headers_cannot_be_forged(mark: str) -> None:
    """A value cannot end its line and begin another header, nor hold what the front end refuses to send."""
    context = context_of({})
    context.set_response_header(0, "X-A", f"1\t{mark}Set-Cookie: a=b")
    context.set_response_content_type(0, f"text/csv{mark}X: y")
    gap = " " * len(mark)
    assert context.get_response_headers(0) == {
        "X-A": f"1\t{gap}Set-Cookie: a=b",
        "content-type": f"text/csv{gap}X: y",
    }


@pytest.mark.parametrize("name", ["", " ", "X A", "X:A", "X-A\r\nY", "X-A\n", "X-\xdc", "\0"])
def test_names_of_headers_are_names(name: str) -> None:
    """What is not a valid header name is an error where it is set: the front end would leave the caller waiting."""
    context = context_of({})
    with pytest.raises(ValueError, match="is not a valid header name"):
        context.set_response_header(0, name, "1")
    assert context.get_response_headers(0) == {}


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_the_content_type_is_a_header_like_others(name: str) -> None:
    """In whatever case it is set, it is the content type, and there is one of it."""
    context = context_of({})
    context.set_response_content_type(0, "text/csv")
    context.set_response_header(0, name, "image/gif")
    assert context.get_response_content_type(0) == "image/gif"
    assert context.get_response_headers(0) == {"content-type": "image/gif"}


def test_values_become_text() -> None:
    """A header's value may be a number."""
    context = context_of({})
    context.set_response_header(0, "X-Count", 3)  # type: ignore[arg-type]  # handlers are not type-checked
    assert context.get_response_headers(0) == {"X-Count": "3"}


def test_the_platform_s_attributes_follow_changed_headers() -> None:
    """Handlers that replace the request processors, as some of MMS's tests do, are followed."""
    context = context_of({})
    context.request_processor = [OurRequestProcessor({CUSTOM_ATTRIBUTES: "later"})]
    assert context.custom_attributes == "later"


# -- parts of a batch -------------------------------------------------------------------------------------------------


def test_the_context_of_one_request() -> None:
    """It shows that request as if it were alone, and what is set on it is set on that request."""
    whole = context_of({"X-A": "0", INFERENCE_ID: "i-0"}, {"X-A": "1", INFERENCE_ID: "i-1"}, {"X-A": "2"})
    part = whole.for_requests([1])
    assert (part.request_id, part.inference_id, part.raw_body) == ("id-1", "i-1", b"body-1")
    assert part.get_request_header(0, "x-a") == "1"
    part.set_response_status(201, "Created")
    part.set_response_header(0, "X-B", "b")
    assert [whole.get_response_status(place)[0] for place in range(3)] == [200, 201, 200]
    assert [whole.get_response_headers(place) for place in range(3)] == [{}, {"X-B": "b"}, {}]
    with pytest.raises(IndexError):
        part.get_request_header(1, "X-A")
    assert (whole.request_id, whole.get_request_id(2)) == ("id-0", "id-2")


def test_the_context_of_some_requests() -> None:
    """Places are counted anew, and all of a batch are the batch itself."""
    whole = context_of({"X-A": "0"}, {"X-A": "1"}, {"X-A": "2"})
    part = whole.for_requests([0, 2])
    assert part.request_ids == {0: "id-0", 1: "id-2"}
    assert [part.get_request_header(place, "X-A") for place in range(2)] == ["0", "2"]
    assert whole.for_requests([0, 1, 2]) is whole
    assert whole.for_requests([]).request_id is None
    assert (part.model_name, part.system_properties) == (whole.model_name, whole.system_properties)


# -- custom attributes of an answer -----------------------------------------------------------------------------------


def test_custom_attributes_of_an_answer() -> None:
    """They become the platform's header, of the first request or the one that is named."""
    context = context_of({CUSTOM_ATTRIBUTES: "asked"}, {})
    context.set_custom_attributes("trace=1; cached")
    context.set_custom_attributes("x" * 1024, 1)
    assert context.get_response_headers(0) == {CUSTOM_ATTRIBUTES: "trace=1; cached"}
    assert context.get_response_headers(1) == {CUSTOM_ATTRIBUTES: "x" * 1024}
    assert context.custom_attributes == "asked"


@pytest.mark.parametrize("value", ["x" * 1025, "grün", "a\nb", "a\rb", "\0", "\x7f"])
def test_custom_attributes_that_the_platform_drops_are_refused(value: str) -> None:
    """What the platform would not pass on is an error where it is set, not a header that is missing later."""
    context = context_of({})
    with pytest.raises(ValueError, match="at most 1024 visible characters of ASCII"):
        context.set_custom_attributes(value)
    assert context.get_response_headers(0) == {}
