# SPDX-License-Identifier: Apache-2.0
"""A request that fails: one record in the log, one body for the caller, and the id that joins the two."""

from __future__ import annotations

import inspect
import logging
import uuid
from typing import NamedTuple

from sagemaker_inference_lite import fork_guard, tracebacks
from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.error_body import describe, error_body
from sagemaker_inference_lite.errors import ServerError
from sagemaker_inference_lite.printable import named, on_one_line

logger = logging.getLogger(__name__)


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
