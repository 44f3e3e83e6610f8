# SPDX-License-Identifier: Apache-2.0
"""GET /ping on the real server: what it says, to whom, and that it waits for nobody."""

from __future__ import annotations

import socket
from typing import Callable

import pytest
import requests
from running_server import Server, eventually


def test_ping_is_empty_and_200_for_get_and_head(multi: Server) -> None:
    """Both ways in which a health check may ask."""
    for method in ("GET", "HEAD"):
        answer = requests.request(method, multi.url + "/ping?x=1", timeout=5)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_ping_knows_no_other_method(multi: Server, method: str) -> None:
    """Anything else is the caller's mistake, and says what is expected."""
    answer = requests.request(method, multi.url + "/ping", timeout=5)
    assert answer.status_code == 405
    assert "GET or HEAD" in answer.json()["message"]


def test_a_ping_behind_a_request_is_answered_in_order(multi: Server, model: str) -> None:
    """On one connection the second answer is the second request's, however much sooner it could be given."""
    multi.load(model)
    invoke = f"POST /models/{model}/invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsleep 0.3"
    ping = "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", multi.port), timeout=10) as connection:
        connection.sendall((invoke + ping).encode())
        said = b""
        while piece := connection.recv(65536):
            said += piece
    first, second = said.split(b"HTTP/1.1 200 OK")[1:]
    assert first.endswith(b"slept")
    assert second.endswith(b"\r\n\r\n")
    multi.unload(model)


def test_ping_turns_503_before_the_answer_for_a_dead_worker_is_out(start_single: Callable[..., Server]) -> None:
    """Whoever has been told that the only worker died finds /ping changed, each time, and 200 once it is back."""
    server = start_single("sleep 0.2", SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    for _ in range(3):
        assert server.invoke("die SIGKILL").status_code == 507
        answer = requests.get(server.url + "/ping", timeout=5)
        assert (answer.status_code, answer.json()["message"]) == (503, "The model is not loaded yet.")
        assert eventually(lambda: server.ping() == 200)
    assert server.stop() == 0
