# SPDX-License-Identifier: Apache-2.0
"""What a caller is told of a request that failed, whichever part of the server found out.

It is one JSON object:
``{"error": {"id": "6f1c...", "type": "ClientError", "message": "The body is not JSON: ..."}}``.
"""

from __future__ import annotations

import json
import operator
import sys
from typing import Any, NamedTuple

from sagemaker_inference_lite.errors import RequestError
from sagemaker_inference_lite.memory import is_memory_error
from sagemaker_inference_lite.printable import encodable


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
