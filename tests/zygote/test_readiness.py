# SPDX-License-Identifier: Apache-2.0
"""What the zygote tells the front end of a single model, with this test in the front end's place."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.readiness import Readiness


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the front end listens: short enough for a socket."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "ready.sock")


def listen(path: Path) -> socket.socket:
    """The front end's listener."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(10)
    return listener


def accept(listener: socket.socket) -> socket.socket:
    """Its end of a connection."""
    connection, _ = listener.accept()
    connection.settimeout(10)
    return connection


def test_each_change_is_one_byte(path: Path) -> None:
    """What has been said already is not said again, and that nothing is loaded goes without saying at first."""
    with listen(path) as listener, closing(Readiness(path, EventLoop())) as readiness:
        for ready in (False, False, True, True, False, True):
            readiness.tell(ready)
        with accept(listener) as connection:
            assert connection.recv(100) == b"101"


def test_a_front_end_that_is_not_there_is_told_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is on its way up, or down: the log has no word of it, and the next change of the workers is another try."""
    readiness = Readiness(path, EventLoop())
    readiness.tell(True)
    assert caplog.text == ""
    with listen(path) as listener, closing(readiness):
        readiness.tell(True)
        with accept(listener) as connection:
            assert connection.recv(100) == b"1"


def test_after_the_connection_has_ended_it_is_said_anew(path: Path) -> None:
    """The front end takes the end for "not loaded"."""
    loop = EventLoop()
    readiness = Readiness(path, loop)
    with listen(path) as listener:
        for _ in range(2):
            readiness.tell(True)
            with accept(listener) as connection:
                assert connection.recv(100) == b"1"
            loop.turn(1)
