# SPDX-License-Identifier: Apache-2.0
"""A request that fails: one record in the log, one body for the caller, and the id that joins the two.

The body is one JSON object:
``{"error": {"id": "6f1c...", "type": "ClientError", "message": "The body is not JSON: ..."}}``.
"""

from __future__ import annotations

import inspect
import json
import logging
import operator
import sys
import uuid
from typing import Any, NamedTuple

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import RequestError, ServerError
from sagemaker_inference_lite.handlers.out_of_memory import is_memory_error
from sagemaker_inference_lite.runtime import fork_guard, tracebacks
from sagemaker_inference_lite.runtime.printable import encodable, named, on_one_line

logger = logging.getLogger(__name__)


class Description(NamedTuple):
    """What a caller may know of an error.

    Attributes:
        status: The HTTP status.
        type_name: What kind of error it is, for programs.
        message: A sentence, for people.
    """

    status: int
    type_name: str
    message: str


def describe(error: BaseException) -> Description:
    """Says of an error what its caller may know.

    A `RequestError` was written for callers and speaks for itself. Of any other error nothing is said: its text
    may hold what is private, and it is in the log.

    Returns:
        The error's own status, class and message for a RequestError, and for a PredictionException of MMS's, which
        handlers raise for the same purpose (mms/service.py); 507 where memory ran out, on which the platform
        unloads other models; 500 for all others.
    """
    said = _said_for_callers(error)
    if said is not None:
        return said
    if is_memory_error(error):
        return Description(507, "OutOfMemory", "The model ran out of memory while it handled the request.")
    message = "The model failed to handle the request; its log has the cause under this id."
    return Description(500, "InternalError", message)


def _said_for_callers(error: BaseException) -> Description | None:
    try:
        if isinstance(error, RequestError):
            return Description(known_status(error.status), type(error).__name__, str(error.message))
        service = sys.modules.get("mms.service")  # a handler that raises its exception has imported it
        if service is not None and isinstance(error, service.PredictionException):
            return Description(known_status(error.error_code), "PredictionException", str(error.message))
    except Exception:  # a class derived from one of the two, that has not what it promises
        pass
    return None


def known_status(code: Any) -> int:
    """The code if it is a status that HTTP knows (RFC 9110, section 15); anything else is an error of ours: 500."""
    try:
        status = operator.index(code)  # numpy's integers are as good
    except TypeError:
        return 500
    return status if 200 <= status <= 599 else 500


def error_body(type_name: str, message: str, *, error_id: str | None = None, trace: str | None = None) -> bytes:
    """Builds the body of an error response.

    Args:
        type_name: What kind of error it is.
        message: What the caller is told.
        error_id: The id under which the log has the cause; left out where there is none.
        trace: A traceback, for development only; left out where there is none.

    Returns:
        One line of JSON in ASCII, ``application/json``.
    """
    error = {"id": error_id, "type": type_name, "message": message, "traceback": trace}
    # Half of a surrogate pair would be an escape that strict readers of JSON refuse (RFC 8259, section 8.2).
    known = {name: encodable(value) for name, value in error.items() if value is not None}
    return json.dumps({"error": known}).encode("ascii")


class Failure(NamedTuple):
    """What a request that failed is answered with.

    Attributes:
        status: The HTTP status.
        body: ``application/json``, see `error_body`.
    """

    status: int
    body: bytes


def failure(error: BaseException, context: Context, *, max_bytes: int, expose_traceback: bool = False) -> Failure:
    """Logs why the requests of a context failed, once, and builds what their callers are told.

    The record names the requests' and the inference ids, the error's id, type and text; the line that it is printed in
    begins with the model's name. With a status of 500 or more it has level ERROR and the traceback, from the author's
    own code on; otherwise the mistake is the caller's, and its level is INFO.

    Args:
        error: What was raised.
        context: Of the requests that it was raised for.
        max_bytes: The largest body; the message is cut, and the traceback left out, where they do not fit.
        expose_traceback: Whether callers see the traceback. For development only.

    In a process that the model's code has forked it never returns (`fork_guard`).
    """
    fork_guard.end_if_forked(error)  # it is no request of this process's that has failed
    status, type_name, message = describe(error)
    error_id = uuid.uuid4().hex
    is_ours = status >= 500
    logger.log(
        logging.ERROR if is_ours else logging.INFO,
        "request %s failed with status %d, error id %s%s: %s",
        ", ".join((context.request_ids or {}).values()),
        status,
        error_id,
        f", inference id {on_one_line(context.inference_id)}" if context.inference_id else "",
        on_one_line(named(error)),
        exc_info=tracebacks.exc_info(error) if is_ours else None,
    )
    trace = tracebacks.text_of(error) or named(error) if expose_traceback else None
    body = error_body(type_name, message, error_id=error_id, trace=trace)
    if len(body) > max_bytes:  # in which an escaped character takes up to twelve bytes
        body = error_body(type_name, message[: max_bytes // 16], error_id=error_id)
    return Failure(status, body)


def refuse_stream(value: object) -> None:
    """Raises where a handler's result is yet to be computed, which nothing here would wait for.

    Raises:
        ServerError: 500. It is a generator, another iterator, or a coroutine; the caller is told that streaming is
            not available on this engine.
    """
    if inspect.iscoroutine(value):
        raise ServerError(500, "The model returned a coroutine; its functions must not be async on this engine.")
    if hasattr(value, "__next__") or hasattr(value, "__anext__"):
        raise ServerError(
            500,
            f"The model returned a {type(value).__name__}. Streaming is not available on this engine, "
            "which sends whole answers: return the whole answer.",
        )
