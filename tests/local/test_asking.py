# SPDX-License-Identifier: Apache-2.0
"""Asking a server once and many times: connections that are kept, answers that do not come, and what is counted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.local import load_run, management, server_events
from sagemaker_inference_lite.local.client import Client, NoAnswerError, UrlError, target
from sagemaker_inference_lite.local.load_run import LoadRun
from sagemaker_inference_lite.supervision.observer import ModelLoaded


class Echo(BaseHTTPRequestHandler):
    """Answers with what it got, and with the status that the path ends in."""

    protocol_version = "HTTP/1.1"
    closes = False

    def do_POST(self) -> None:
        """One request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.closes  # without saying so

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def echoing(closes: bool = False) -> Iterator[tuple[str, set[tuple[str, int]]]]:
    """A server's address, and the addresses of its clients' connections."""
    connections: set[tuple[str, int]] = set()

    class Handler(Echo):
        def setup(self) -> None:
            connections.add(self.client_address)
            super().setup()

    Handler.closes = closes
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", connections
        server.shutdown()
        thread.join()


def test_a_connection_is_kept() -> None:
    """Requests after the first are sent on the same connection."""
    with echoing() as (url, connections), Client(target(f"{url}/200")) as client:
        for _ in range(3):
            response = client.post(b"x", {})
            assert (response.status, response.body) == (200, b"x")
        assert len(connections) == 1


def test_a_connection_that_was_closed_is_made_anew() -> None:
    """A server that closes a connection between two requests has not refused the second one."""
    with echoing(closes=True) as (url, connections), Client(target(f"{url}/200")) as client:
        assert [client.post(b"x", {}).status for _ in range(3)] == [200] * 3
        assert len(connections) == 3


def test_answers_that_do_not_come() -> None:
    """Each reason why there is no answer is said with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(target(url), timeout=0.1) as client, pytest.raises(NoAnswerError, match="has not answered within"):
            client.post(b"", {})
    with Client(target(url)) as client, pytest.raises(NoAnswerError, match="Nobody listens at"):
        client.post(b"", {})


@pytest.mark.parametrize(
    ("url", "model", "expected"),
    [
        ("127.0.0.1:8081", None, "http://127.0.0.1:8081/invocations"),
        ("http://host/", "a b/c", "http://host:80/models/a%20b%2Fc/invoke"),
        ("https://host", None, "https://host:443/invocations"),
        ("http://[::1]:8080/models/x/invoke?v=1", None, "http://[::1]:8080/models/x/invoke?v=1"),
    ],
)
def test_targets(url: str, model: str | None, expected: str) -> None:
    """An address without a path is completed; one with a path is taken as it is."""
    assert str(target(url, model)) == expected


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port"])
def test_what_is_no_target(url: str) -> None:
    """What is not an HTTP address is refused."""
    with pytest.raises(UrlError, match="Expected one such as"):
        target(url)


def test_a_run_counts_every_answer() -> None:
    """Each of its connections has one request in flight, and all answers are counted by status."""
    with echoing() as (url, connections):
        run = LoadRun(target(f"{url}/429"), b"x", {}, repeat=25, concurrency=3, timeout=30)
        run.start()
        assert run.wait(30)
        summary = run.summary()
        assert (summary.requests, summary.statuses, summary.failures) == (25, {429: 25}, {})
        assert run.done == 25
        assert len(connections) <= 3


def test_percentiles_and_bars() -> None:
    """A percentile is one of the times; the bars hold every answer, the slowest in the last."""
    times = [number / 1000 for number in range(1, 101)]
    assert [load_run.percentile(times, share) for share in (50, 90, 99, 100)] == [0.05, 0.09, 0.099, 0.1]
    bars = load_run.histogram([*times, 5.0])
    assert sum(bar.answers for bar in bars) == 101
    assert bars[-1].high == 5.0
    assert load_run.histogram([]) == ()
    assert load_run.histogram([0.5, 0.5]) == (load_run.Bar(0.5, 0.5, 2),)
    assert load_run.percentile([], 50) == 0.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"type": "X", "message": "why"}}', "why"),
        (b'{"code": 500, "message": "why"}', "why"),
        (b"plain\n", "plain"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_the_sentence_of_an_error(body: bytes, message: str) -> None:
    """An error's sentence is found in its body, whichever part of the server has written it."""
    assert management.message_of(body) == message


def test_events_survive_the_way() -> None:
    """What the server's process tells arrives as it was; anything else is no event."""
    for event in (
        server_events.StartFailed(6, "a\nb"),
        ModelLoaded("m", 1.5, "what", "rows", "application/json", "[[0.0]]"),
    ):
        line = server_events.encode(event)
        assert line.count(b"\n") == 1
        assert server_events.parse(line) == event
    for line in (b"", b"[]", b'["Ended", 1]', b'["StartFailed"]', b"5", b"{"):
        with pytest.raises(WireError):
            server_events.parse(line)
