# SPDX-License-Identifier: Apache-2.0
"""The line of a request: which requests have one, and what is in it."""

from __future__ import annotations

import re
from typing import Callable

import pytest
import requests
from running_server import Server, eventually

pytestmark = pytest.mark.once

Start = Callable[..., Server]

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[INFO\] access - "
    r"127\.0\.0\.1:\d+ \"(\S+ \S+) HTTP/1\.1\" (\d{3}) \d+ ms(?:, model (\S+))?(?:, request ([0-9a-f-]{36}))?"
)


def logged(server: Server) -> list[tuple[str, ...]]:
    """Request, status, model and id of each line, once the server has ended and all lines are there."""
    assert server.stop() == 0
    lines = [line for line in server.output().splitlines() if " access - " in line]
    found = [LINE.fullmatch(line) for line in lines]
    assert None not in found, lines
    return [each.groups(default="") for each in found if each]


def ask(server: Server) -> list[requests.Response]:
    """A request that succeeds, one that its model fails, one that nobody serves, and a load."""
    server.load("wine")
    return [
        server.invoke("echo", "wine"),
        server.invoke("raise", "wine"),
        requests.get(server.url + "/nowhere", timeout=5),
        server.load("bad", "exit 3"),
    ]


def test_every_request_has_a_line_where_all_are_wanted(start: Start) -> None:
    """Address, request, status, time, and once the id that the client was told; a load names the model."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_ACCESS_LOG="all").ready()
    ids = [each.headers["x-request-id"] for each in ask(server)]
    server.ready()
    lines = logged(server)
    assert [each[:3] for each in lines] == [
        ("GET /ping", "200", ""),
        ("POST /models", "200", "wine"),
        ("POST /models/wine/invoke", "200", ""),
        ("POST /models/wine/invoke", "500", ""),
        ("GET /nowhere", "404", ""),
        ("POST /models", "500", "bad"),
    ]
    assert [each[3] for each in lines[2:]] == ids


def test_failures_have_a_line_unless_something_else_is_wanted(start: Start) -> None:
    """400 and more."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    ask(server)
    assert [each[:3] for each in logged(server)] == [
        ("POST /models/wine/invoke", "500", ""),
        ("GET /nowhere", "404", ""),
        ("POST /models", "500", "bad"),
    ]


def test_no_request_has_a_line_where_none_is_wanted(start: Start) -> None:
    """Not those that fail either."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_ACCESS_LOG="none").ready()
    ask(server)
    assert logged(server) == []


def test_a_ping_has_a_line_where_its_answer_has_changed(start_single: Start) -> None:
    """While a model loads /ping is 503, again and again: that is one line. So is each further loss of the model."""
    server = start_single("sleep 0.5", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    eventually(lambda: server.ping() == 503)
    server.ready()
    for _ in range(2):
        assert server.invoke("die SIGKILL").status_code == 507
        assert server.ping() == 503
        server.ready()
    lost = [("POST /invocations", "507"), ("GET /ping", "503")]
    assert [each[:2] for each in logged(server)] == [("GET /ping", "503"), *lost, *lost]


def test_a_long_address_is_cut(start: Start) -> None:
    """A line is one that a terminal can show."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    requests.get(server.url + "/" + "x" * 3000, timeout=5)
    ((request, status, _, _),) = logged(server)
    assert (request, status) == ("GET /" + "x" * 299 + "...", "404")


def test_a_client_that_goes_is_told_of(start: Start) -> None:
    """Where all requests have a line, one that nobody waits for any more has one too."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_ACCESS_LOG="all").ready()
    server.load("m")
    with pytest.raises(requests.Timeout):
        server.invoke("sleep 1", "m", timeout=0.3)
    assert eventually(lambda: re.search(r'invoke HTTP/1\.1" - \d+ ms, the client has gone', server.output()))
