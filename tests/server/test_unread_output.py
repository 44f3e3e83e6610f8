# SPDX-License-Identifier: Apache-2.0
"""Nobody reads what the container prints: nothing waits for that, and what was lost is counted."""

from __future__ import annotations

import http.client
import os
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import pytest
import requests
from running_server import Server, all_gone, eventually

Start = Callable[..., Server]

PING_SECONDS = 2.0
NOTICE = re.compile(rb"(\d+) lines \((\d+) bytes\) of output were dropped: nobody read them")
# What a model prints, what MMS prints, and what the server logs: a notice too.
WHOLE_LINE = re.compile(rb"\[model\] y{1000}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[[A-Z]+\] .+")


class Reader:
    """A pipe that a server prints to, and that nobody reads until somebody asks what was printed."""

    def __init__(self) -> None:
        self._source, self._sink = os.pipe()
        self.text = b""

    def fileno(self) -> int:
        """Where to print to."""
        return self._sink

    def fill(self) -> None:
        """Leave no room, as a reader does that has been asleep for long."""
        os.set_blocking(self._sink, False)
        while self._fits():
            pass
        os.set_blocking(self._sink, True)

    def _fits(self) -> bool:
        try:
            return bool(os.write(self._sink, b"y\n" * 256))
        except BlockingIOError:
            return False

    def wake_up(self) -> None:
        """Read what is there, and what comes after it for as long as it keeps coming."""
        while select.select([self._source], [], [], 0.5)[0]:
            read = os.read(self._source, 1 << 20)
            if not read:
                return
            self.text += read

    def close(self) -> None:
        """Hang up."""
        os.close(self._source)
        os.close(self._sink)


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader that sleeps."""
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture
def start_unread(start: Start, reader: Reader, tmp_path: Path) -> Start:
    """Starts single-model servers whose output nobody reads."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "on_load").write_text("echo")

    def starter(**environ: str) -> Server:
        return start(output=reader, SAGEMAKER_MODEL_SERVER_WORKERS="1", **environ)

    return starter


@contextmanager
def healthy(server: Server) -> Iterator[None]:
    """All the while /ping is 200, and takes less than PING_SECONDS."""
    ended = threading.Event()
    failures: list[object] = []

    def ping() -> None:
        while not ended.wait(0.1):
            try:
                status: object = requests.get(server.url + "/ping", timeout=PING_SECONDS).status_code
            except requests.RequestException as error:
                status = error
            if status != 200:
                failures.append(status)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert failures == []


def ask_for_what_is_not_there(server: Server, times: int) -> None:
    """Each answer of 404 is a line of the front end's log."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PING_SECONDS)
    for _ in range(times):
        connection.request("GET", "/nowhere")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404


def test_requests_are_answered_and_the_loss_is_counted(start_unread: Start, reader: Reader) -> None:
    """A model that prints, and the front end's own log: every request is answered, and /ping is true and quick.

    Whoever reads again finds whole lines, and one that counts those that are missing.
    """
    server = start_unread().ready()
    with healthy(server):
        for _ in range(150):
            assert server.invoke("print_lines 60", timeout=PING_SECONDS).text == "printed"
        ask_for_what_is_not_there(server, 700)
    reader.wake_up()
    assert server.invoke("print_lines 1").text == "printed"
    reader.wake_up()
    lines = reader.text.splitlines()
    assert [line for line in lines if not WHOLE_LINE.fullmatch(line)] == []
    notices = list(NOTICE.finditer(reader.text))
    assert len(notices) == 1
    printed = sum(line.startswith(b"[model] y") for line in lines)
    missing = 150 * 60 + 1 - printed
    assert 0 < missing <= int(notices[0][1]) <= missing + 700
    assert int(notices[0][2]) >= missing * len(b"[model] \n" + b"y" * 1000)
    assert server.stop() == 0


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]])
def test_a_stop_waits_for_no_reader(start_unread: Start, reader: Reader, signals: list[signal.Signals]) -> None:
    """SIGTERM answers what is in flight and exits with 0, a second signal ends at once with 128 + its number."""
    server = start_unread(SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS="20").ready()
    reader.fill()
    processes = server.descendants()
    answers: list[str] = []
    command = "sleep 2" if len(signals) == 1 else "sleep 15"
    thread = threading.Thread(target=lambda: answers.append(ask(server, command)))
    thread.start()
    time.sleep(0.5)  # for the request to be in the worker's hands
    begun = time.monotonic()
    server.process.send_signal(signals[0])
    eventually(lambda: server.ping() == 503)
    for number in signals[1:]:
        server.process.send_signal(number)
    assert server.ended(28) == (0 if len(signals) == 1 else 128 + signals[-1])
    assert time.monotonic() - begun < 8
    thread.join()
    assert answers == (["slept"] if len(signals) == 1 else ["none"])
    assert all_gone(processes)


def ask(server: Server, command: str) -> str:
    """The answer to a command; "none" where there is none."""
    try:
        return server.invoke(command).text
    except requests.ConnectionError:
        return "none"


@pytest.mark.parametrize(
    ("environ", "status"),
    [({"SAGEMAKER_BASE_DIR": "/nowhere"}, 3), ({"SAGEMAKER_MODEL_SERVER_PRELOAD": "nowhere_at_all"}, 4)],
)
def test_a_start_that_fails_waits_for_no_reader(
    start_unread: Start, reader: Reader, environ: dict[str, str], status: int
) -> None:
    """What the entry point says of a start that failed is not waited for either, and its status is what it is."""
    reader.fill()
    assert start_unread(**environ).ended(10) == status
