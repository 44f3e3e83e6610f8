# SPDX-License-Identifier: Apache-2.0
"""A request that fails: what the log has of it, and what its caller is told."""

from __future__ import annotations

import json
import logging

import orjson
import pytest

from sagemaker_inference_lite.context import INFERENCE_ID, Context
from sagemaker_inference_lite.errors import ClientError, ServerError
from sagemaker_inference_lite.handlers.error_response import failure, refuse_stream

MAX_BYTES = 1 << 20


def context_of(*ids: str, **headers: str) -> Context:
    """The context of requests with these ids."""
    context = Context("wine", "/m")
    context.begin((each, headers, None) for each in ids)
    return context


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def test_one_record_has_everything(caplog: pytest.LogCaptureFixture) -> None:
    """The record of a failure of ours names request, inference id and error id, and has the traceback."""
    error = raised(KeyError("secret"))
    status, body = failure(error, context_of("5f0c", **{INFERENCE_ID: "mine"}), max_bytes=MAX_BYTES)
    answer = json.loads(body)["error"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"request 5f0c failed with status 500, error id {answer['id']}, inference id mine: KeyError: 'secret'"
    )
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert status == 500
    assert "secret" not in body.decode()


def test_a_client_s_mistake_has_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A 4xx is logged at level INFO, and its message is for the caller."""
    caplog.set_level(logging.INFO)
    status, body = failure(raised(ClientError(422, "Too short.")), context_of("a", "b"), max_bytes=MAX_BYTES)
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert record.getMessage().startswith("request a, b failed with status 422, error id ")
    assert (status, json.loads(body)["error"]["message"]) == (422, "Too short.")


def test_a_client_cannot_write_lines_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What an error quotes of a request stays on the record's one line."""
    failure(ServerError(500, "Found\n2030-01-01 [INFO] forged\r"), context_of("a"), max_bytes=MAX_BYTES)
    assert caplog.records[0].getMessage().endswith("ServerError: Found\\n2030-01-01 [INFO] forged\\r")


def test_an_error_that_has_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """An error whose text raises is logged and answered all the same."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise LookupError

    status, _ = failure(raised(MuteError()), context_of("a"), max_bytes=MAX_BYTES)
    assert status == 500
    assert "MuteError: its text cannot be had: LookupError" in caplog.records[0].getMessage()


def test_odd_characters(caplog: pytest.LogCaptureFixture) -> None:
    """Half of a surrogate pair and control characters are escapes in the log, and the body is JSON for anybody."""
    error = raised(ClientError(422, "\ud800\x1b[2J\u2028"))
    caplog.set_level(logging.INFO)
    body = failure(error, context_of("a"), max_bytes=MAX_BYTES, expose_traceback=True).body
    assert caplog.records[0].getMessage().endswith("ClientError: \\ud800\\x1b[2J\\u2028")
    assert orjson.loads(body)["error"]["message"] == "\\ud800\x1b[2J\u2028"


@pytest.mark.parametrize("exposed", [True, False])
def test_tracebacks_are_for_development(exposed: bool) -> None:
    """Callers see the traceback only where that is asked for."""
    body = failure(raised(KeyError("secret")), context_of("a"), max_bytes=MAX_BYTES, expose_traceback=exposed).body
    assert (b"Traceback (most recent call last)" in body) == exposed


@pytest.mark.parametrize("value", [None, [1], (1, 2), "text", b"bytes", {"a": 1}, 7, range(3), memoryview(b"a")])
def test_what_is_there_is_no_stream(value: object) -> None:
    """Values, and what can be read more than once, pass."""
    refuse_stream(value)
