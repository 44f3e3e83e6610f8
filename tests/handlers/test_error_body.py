# SPDX-License-Identifier: Apache-2.0
"""What callers are told of an error."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest

from sagemaker_inference_lite.errors import ClientError, RequestError, ServerError, UnsupportedMediaTypeError
from sagemaker_inference_lite.handlers.error_response import describe, error_body, known_status


def test_body_is_one_json_object_on_one_line() -> None:
    """The body is JSON in ASCII on one line, whatever the message holds, with its keys in a fixed order."""
    body = error_body("ClientError", 'grün "\n\ud800', error_id="12")
    assert body.isascii()
    assert b"\n" not in body
    assert json.loads(body) == {"error": {"id": "12", "type": "ClientError", "message": 'grün "\n\\ud800'}}
    assert list(json.loads(body)["error"]) == ["id", "type", "message"]


def test_id_and_traceback_are_left_out_where_there_are_none() -> None:
    """Without an id or a traceback the body has no such key."""
    assert json.loads(error_body("E", "m")) == {"error": {"type": "E", "message": "m"}}
    assert json.loads(error_body("E", "m", trace="t")) == {"error": {"type": "E", "message": "m", "traceback": "t"}}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClientError(422, "no such user"), (422, "ClientError", "no such user")),
        (UnsupportedMediaTypeError("not that"), (415, "UnsupportedMediaTypeError", "not that")),
        (ServerError(503, "later"), (503, "ServerError", "later")),
        (RequestError(409, "twice"), (409, "RequestError", "twice")),
    ],
)
def test_request_errors_speak_for_themselves(error: RequestError, expected: tuple[int, str, str]) -> None:
    """An error that was raised for the caller gives its own status, class and message."""
    assert describe(error) == expected


@pytest.mark.parametrize(("error", "status"), [(ValueError("secret"), 500), (MemoryError("secret"), 507)])
def test_other_errors_keep_their_secrets(error: Exception, status: int) -> None:
    """Of any other error the caller learns the status, 507 where memory ran out, and nothing of its text."""
    described = describe(error)
    assert described.status == status
    assert "secret" not in str(described)


@pytest.mark.parametrize(
    ("code", "status"), [(200, 200), (599, 599), (np.int64(404), 404), (99, 500), (600, 500), ("404", 500), (None, 500)]
)
def test_statuses_that_http_knows(code: object, status: int) -> None:
    """Any whole number from 200 to 599 is a status, and anything else is an error of ours."""
    assert known_status(code) == status


@pytest.mark.parametrize("half", ["\ud800", "a\udc80b"])
def test_strict_readers_can_read_it(half: str) -> None:
    """Half of a surrogate pair, which has no place in UTF-8, is shown as an escape wherever it stands."""
    body = error_body("E" + half, "m" + half, error_id="1", trace="t" + half)
    error = orjson.loads(body)["error"]
    shown = half.encode(errors="backslashreplace").decode()
    assert [error[key][1:] for key in ("type", "message", "traceback")] == [shown] * 3


def test_an_error_that_is_not_what_its_class_says() -> None:
    """A class of a handler's own that forgot to call its base class, or has no text, is an error of ours."""

    class Forgetful(ClientError):
        def __init__(self) -> None:
            pass

    class Mute:
        def __str__(self) -> str:
            raise LookupError

    assert describe(Forgetful()).status == 500
    assert describe(ClientError(422, Mute())).status == 500  # type: ignore[arg-type]


def test_an_error_that_has_no_text_is_described() -> None:
    """An error whose text raises is an error of ours like others."""

    class MuteError(RuntimeError):
        def __str__(self) -> str:
            raise LookupError

    assert describe(MuteError()).status == 500
