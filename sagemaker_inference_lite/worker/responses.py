# SPDX-License-Identifier: Apache-2.0
"""From the requests of a batch to its answers: calls the handler and makes of whatever it does a valid frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from sagemaker_inference_lite.context import Context, Headers
from sagemaker_inference_lite.handlers import forms
from sagemaker_inference_lite.handlers.error_response import Failure, failure, known_status, refuse_stream
from sagemaker_inference_lite.handlers.forms import Field, Form
from sagemaker_inference_lite.handlers.handler_loader import Handle
from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.runtime import logs

JSON = "application/json"


class AnswerOptions(NamedTuple):
    """How requests are answered.

    Attributes:
        max_body_bytes: The largest answer; the front end drops a connection that sends more.
        expose_tracebacks: Whether callers see the traceback of a failure.
        decode_input: MMS's decode_input_request: handlers get JSON parsed and text decoded.
    """

    max_body_bytes: int
    expose_tracebacks: bool = False
    decode_input: bool = False


def answer(
    handle: Handle, context: Context, requests: Sequence[wire.Request], options: AnswerOptions
) -> list[wire.Buffer]:
    """The frame that answers requests, in pieces. A failure of the handler's is an answer too.

    Raises:
        WireError: a request's headers cannot be read, which shows when they are asked for.
    """
    found = _forms(requests, options.decode_input)
    context.begin([(each.request_id, partial(_headers, each, found), _raw_body(each)) for each in requests])
    logs.belong_to(context)
    try:
        data = [_inputs(each, options.decode_input, found) for each in requests]
        results = handle(data, context)
        return wire.encode_predictions(_predictions(results, context, requests, options))
    except BaseException as error:  # a handler may raise anything, SystemExit included: it is its request that fails
        logs.belong_to(context)
        return _failed(error, context, options)
    finally:
        logs.belong_to(None)


def _failed(error: BaseException, context: Context, options: AnswerOptions) -> list[wire.Buffer]:
    failed = _failure(error, context, options)
    return refusal(len(context.request_ids or {}), failed.status, failed.body)


def _failure(error: BaseException, context: Context, options: AnswerOptions) -> Failure:
    return failure(error, context, max_bytes=options.max_body_bytes, expose_traceback=options.expose_tracebacks)


def refusal(count: int, status: int, body: bytes) -> list[wire.Buffer]:
    """The frame that answers each of so many requests with the same error body."""
    return wire.encode_predictions([wire.Prediction(body, JSON, status)] * count)


def _headers(request: wire.Request, found: Mapping[str, Form]) -> Headers:
    # MMS shows handlers the content type of each input among the headers, under the input's name.
    # Those of query parameters, which have none, would pose as headers.
    form = found.get(request.request_id)
    parameters = request.parameters if form is None else ()
    inputs = {each.name: {"content-type": each.content_type} for each in parameters if each.content_type}
    headers = Headers({**inputs, **wire.parse_headers(request.raw_headers)})
    if form is not None:
        form.describe_in(headers)
    return headers


def _raw_body(request: wire.Request) -> Any:
    # The last, as in _inputs(): a query parameter of that name comes before it.
    for name, _, value in reversed(request.parameters):
        if name == "body":
            return value
    return None


def _forms(requests: Sequence[wire.Request], decode: bool) -> Mapping[str, Form]:
    """The inputs of those requests whose body is a form, by the ids of the requests."""
    found = _NO_FORMS
    for each in requests:
        if each.parameters and _is_type_of_forms(each.parameters[-1].content_type):
            form = _form(each, decode)
            found = {**found, each.request_id: form} if form is not None else found
    return found


_NO_FORMS: Mapping[str, Form] = {}


@lru_cache(64)  # what clients send is nearly always the same
def _is_type_of_forms(content_type: str) -> bool:
    return content_type.lower() in (forms.URL_ENCODED, forms.MULTIPART)


def _form(request: wire.Request, decode: bool) -> Form | None:
    """The inputs of a request whose body is of a form's type; None where it is no form all the same."""
    name, content_type, body = request.parameters[-1]
    if name != "body":
        return None
    fields = partial(forms.url_encoded_fields, body)
    if content_type.lower() == forms.MULTIPART:
        header = Headers(wire.parse_headers(request.raw_headers)).get("content-type", "")
        boundary = forms.boundary_of(header)
        if boundary is None:
            return None  # for MMS too it is a body then
        fields = partial(forms.multipart_fields, body, boundary)
    others = request._replace(parameters=request.parameters[:-1])
    return Form(_inputs(others, decode, _NO_FORMS), fields, _decoded if decode else _value)


def _inputs(request: wire.Request, decode: bool, found: Mapping[str, Form]) -> dict[str, Any]:
    if found and request.request_id in found:
        return found[request.request_id]
    if decode:
        return {parameter.name: _decoded(parameter) for parameter in request.parameters}
    return {parameter.name: parameter.value for parameter in request.parameters}


def _value(parameter: wire.Parameter | Field) -> bytes:
    return parameter.value


def _decoded(parameter: wire.Parameter | Field) -> Any:
    """As MMS's worker does it with decode_input_request (mms/protocol/otf_message_handler.py)."""
    if parameter.content_type == JSON:
        return json.loads(parameter.value)
    return parameter.value.decode() if parameter.content_type.startswith("text") else parameter.value


def _predictions(
    results: Any, context: Context, requests: Sequence[wire.Request], options: AnswerOptions
) -> list[wire.Prediction]:
    refuse_stream(results)
    if not isinstance(results, (list, tuple)) or len(results) != len(requests):
        found = f"{len(results)} answers" if isinstance(results, (list, tuple)) else f"a {type(results).__name__}"
        raise TypeError(
            f"the handler must return a list with one answer for each of {len(requests)} requests, not {found}"
        )
    return [_prediction_or_failure(result, place, context, options) for place, result in enumerate(results)]


def _prediction_or_failure(result: Any, place: int, context: Context, options: AnswerOptions) -> wire.Prediction:
    try:
        prediction = _prediction(result, place, context, options)
        if prediction.headers:
            wire.encode_headers(prediction.headers)  # which has a limit
        return prediction
    except Exception as error:
        status, body = _failure(error, context.for_requests([place]), options)
        return wire.Prediction(body, JSON, status)


def _prediction(result: Any, place: int, context: Context, options: AnswerOptions) -> wire.Prediction:
    body, content_type = _body(result)
    if len(body) > options.max_body_bytes:
        raise ValueError(
            f"the answer has {len(body)} bytes; the limit is {options.max_body_bytes} (SAGEMAKER_MAX_PAYLOAD_IN_MB)"
        )
    headers: list[tuple[str, str]] = []
    for name, value in context.get_response_headers(place).items():
        if name.lower() == "content-type":
            content_type = value
        else:
            headers.append((name, value))
    if len(content_type) > wire.MAX_HEADER_BYTES:
        raise ValueError(f"the content type has {len(content_type)} characters; the limit is {wire.MAX_HEADER_BYTES}")
    status, _ = context.get_response_status(place)
    return wire.Prediction(body, content_type, known_status(status), headers)


def _body(result: Any) -> tuple[wire.Buffer, str]:
    """As MMS does it: bytes and text as they are, everything else as JSON."""
    if isinstance(result, (bytes, bytearray)):
        return result, ""
    if isinstance(result, memoryview):
        return result.tobytes(), ""
    if isinstance(result, str):
        return result.encode(), ""
    refuse_stream(result)
    return json.dumps(result).encode(), JSON
