# SPDX-License-Identifier: Apache-2.0
"""The zygote on its own, with this test in the front end's place: what a connection may say, and what it costs."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_end_codec import INT, Response, decode_response, encode_load, encode_predict, field
from running_server import HANDLER, eventually

from sagemaker_inference_lite.mms import wire


class FrontEnd:
    """Speaks to a zygote as stubs and MMS do.

    Args:
        directory: Short enough for sockets.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.supervisor, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-m", "sagemaker_inference_lite.worker.zygote", "--supervisor-fd", str(theirs.fileno())]
        argv += ["--directory", str(directory), "--handler", HANDLER]
        argv += ["--max-request-size", str(1 << 20), "--max-response-size", str(1 << 20)]
        environ = {**os.environ, "SAGEMAKER_MULTI_MODEL": "true"}
        self.log = directory.parent / f"{directory.name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdout=log, stderr=log, env=environ)
        theirs.close()
        assert json.loads(self.supervisor.recv(65536))["event"] == "ready", self.log.read_text()

    def announce(self, name: str, pid: int = 0) -> socket.socket:
        """A stub's part: the connection to keep open while the model lives. The pid is killed for a 507."""
        stub = socket.socket(socket.AF_UNIX)
        stub.settimeout(10)
        stub.connect(str(self.directory / "zygote.sock"))
        address = {"sock-type": "unix", "sock-name": str(self.directory / name)}
        stub.sendall(json.dumps({**address, "model-name": name, "pid": pid}).encode() + b"\n")
        assert stub.recv(1) == b"+"
        return stub

    def connect(self, name: str) -> socket.socket:
        """MMS's part: a connection for a worker."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self.directory / name))
        return connection

    def loaded(self, name: str) -> socket.socket:
        """A connection whose model is loaded."""
        connection = self.connect(name)
        connection.sendall(encode_load(wire.Load(name, str(self.directory), 1, HANDLER, None, "io")))
        assert answer(connection).code == 200
        return connection

    def stop(self) -> int:
        """The supervisor's part; the zygote's exit status."""
        self.supervisor.close()
        return self.process.wait(20)


def answer(connection: socket.socket) -> Response:
    """The next answer on a connection."""
    data = b""
    while True:
        piece = connection.recv(65536)
        assert piece, f"the connection ended after {data!r}"
        data += piece
        response = decode_response(data)
        if response is not None:
            return response


def request(command: str) -> bytes:
    """A PREDICT for the commanded handler."""
    body = wire.Parameter("body", "text/plain", command.encode())
    return encode_predict([wire.Request("0123-4567", {"Content-Type": "text/plain"}, [body])])


@pytest.fixture
def front_end(short_directory: Path) -> Iterator[FrontEnd]:
    """A zygote, and this test in the place of all its peers."""
    front_end = FrontEnd(short_directory)
    yield front_end
    assert front_end.stop() == 0
    assert not short_directory.exists()


NONSENSE = {
    "an unknown command": b"X" * 20,
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "a negative length": b"I" + INT.pack(-7),
    "an endless length": b"I" + INT.pack(2**31 - 1),
    "text that is none": b"I" + field(b"\xff\xfe"),
    "bytes after the end": b"I" + INT.pack(-1) + b"more",
    "a second LOAD": encode_load(wire.Load("m", "/", 1, HANDLER, None, "io")),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_ends_its_connection_and_nothing_else(front_end: FrontEnd, name: str) -> None:
    """A frame that is none ends the connection with a line in the log; the model's other connections go on."""
    stub = front_end.announce("m")
    with front_end.loaded("m") as other, front_end.loaded("m") as connection:
        connection.sendall(NONSENSE[name])
        assert connection.recv(1) == b""
        other.sendall(request("echo on"))
        assert answer(other).predictions[0].body == b"on"
    stub.close()


@pytest.mark.parametrize("data", [b"X" * 20, request("echo early"), b"L" + INT.pack(2**30)])
def test_nonsense_before_the_load_ends_its_connection_too(front_end: FrontEnd, data: bytes) -> None:
    """What comes in LOAD's place and is none: the zygote, which reads it, says so and goes on."""
    stub = front_end.announce("m")
    with front_end.connect("m") as connection:
        connection.sendall(data)
        assert connection.recv(1) == b""
    assert eventually(lambda: "a connection for model m is given up" in front_end.log.read_text())
    front_end.loaded("m").close()
    stub.close()


def test_a_frame_cut_short_ends_its_connection(front_end: FrontEnd) -> None:
    """The stream ends inside a frame: no answer, and a worker that ends."""
    stub = front_end.announce("m")
    with front_end.loaded("m") as connection:
        connection.sendall(request("echo never")[:-9])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    stub.close()


def test_a_worker_that_dies_is_answered_for_on_the_same_connection(front_end: FrontEnd) -> None:
    """The zygote answers in its place, under the request's id, and a successor goes on: no disconnect is seen."""
    stub = front_end.announce("m")
    with front_end.loaded("m") as connection:
        for command, status in (("die SIGKILL", 507), ("vanish 1", 500), ("echo on", 200)):
            connection.sendall(request(command))
            response = answer(connection)
            assert response.code == 200
            assert (response.predictions[0].request_id, response.predictions[0].status) == ("0123-4567", status)
    stub.close()


def test_a_load_can_come_byte_by_byte(front_end: FrontEnd) -> None:
    """LOAD is put together from whatever pieces it comes in."""
    stub = front_end.announce("m")
    with front_end.connect("m") as connection:
        for byte in encode_load(wire.Load("m", str(front_end.directory), 1, HANDLER, None, "io")):
            connection.sendall(bytes([byte]))
        assert answer(connection).message.startswith("[PID]:")
    stub.close()


def test_a_stub_that_says_nonsense_is_not_served(front_end: FrontEnd) -> None:
    """Neither what is no announcement nor one that cannot be listened for stops the zygote."""
    for line in (
        b"nonsense\n",
        b"{}\n",
        b'{"sock-type": "unix", "sock-name": "/nowhere/s", "model-name": "m", "pid": 1}\n',
    ):
        with socket.socket(socket.AF_UNIX) as stub:
            stub.settimeout(10)
            stub.connect(str(front_end.directory / "zygote.sock"))
            stub.sendall(line)
            assert stub.recv(1) == b""
    front_end.announce("m").close()


def test_it_serves_where_no_more_files_can_be_opened(front_end: FrontEnd) -> None:
    """A worker that cannot be made is 507, "any other resource"; what is loaded goes on, and so does the zygote."""
    process = subprocess.Popen(["sleep", "60"])
    stub = front_end.announce("m", process.pid)
    with front_end.loaded("m") as connection:
        limits = resource.prlimit(front_end.process.pid, resource.RLIMIT_NOFILE)
        opened = len(os.listdir(f"/proc/{front_end.process.pid}/fd"))
        resource.prlimit(front_end.process.pid, resource.RLIMIT_NOFILE, (opened + 3, limits[1]))
        with front_end.connect("m") as refused:
            refused.sendall(encode_load(wire.Load("m", "/", 1, HANDLER, None, "io")))
            assert process.wait(20) == -signal.SIGKILL  # so that MMS forgets the model
            assert answer(refused).code == 507
        assert "no worker can be made for model m" in front_end.log.read_text()
        connection.sendall(request("echo on"))
        assert answer(connection).predictions[0].body == b"on"
        resource.prlimit(front_end.process.pid, resource.RLIMIT_NOFILE, limits)
    stub.close()
