# SPDX-License-Identifier: Apache-2.0
"""The zygote on its own, with this test in the front end's place: what a connection may say, and what it costs."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from front_end_codec import (
    INT,
    LONG,
    Answer,
    Failed,
    Loaded,
    Prediction,
    decode_answer,
    encode_headers,
    encode_load,
    encode_requests,
    field,
    frame,
)
from packages import ask_for, make_wheel
from running_server import HANDLER, all_gone, eventually, leads_a_group

from sagemaker_inference_lite.ipc import wire

MIB = 1 << 20


class FrontEnd:
    """Speaks to a zygote as the front end and the supervisor do.

    Args:
        directory: Short enough for sockets.
    """

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory = directory
        self.supervisor, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-m", "sagemaker_inference_lite.zygote", "--supervisor-fd", str(theirs.fileno())]
        argv += ["--directory", str(directory), "--handler", HANDLER]
        argv += ["--max-request-size", str(MIB), "--max-response-size", str(MIB)]
        environ = {**os.environ, "SAGEMAKER_MULTI_MODEL": "true", **environ}
        self.log = directory.parent / f"{directory.name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdout=log, stderr=log, env=environ)
        theirs.close()
        event = "importing"
        while event == "importing":
            event = json.loads(self.supervisor.recv(65536) or b'{"event": "ended"}')["event"]
        assert event == "ready", self.log.read_text()
        self.supervisor.setblocking(False)
        self._outputs: list[int] = []
        self._printed = b""

    def output(self) -> str:
        """All that the zygote and its workers have printed so far."""
        with suppress(BlockingIOError):
            while True:
                _, files, _, _ = socket.recv_fds(self.supervisor, 65536, 2)
                self._outputs += files
        for number in self._outputs:
            os.set_blocking(number, False)
            with suppress(BlockingIOError):
                while piece := os.read(number, 65536):
                    self._printed += piece
        return self._printed.decode() + self.log.read_text()

    def model(self, name: str, on_load: str = "echo") -> Path:
        """The directory of a model, which obeys this command when it is loaded."""
        directory = self.directory.parent / "models" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "on_load").write_text(on_load)
        return directory

    def connect(self) -> socket.socket:
        """A connection for a worker."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self.directory / "workers.sock"))
        return connection

    def load(self, name: str, batch_size: int = 1) -> bytes:
        """LOAD for the model of that name."""
        path = self.directory.parent / "models" / name
        return encode_load(wire.Load(name, str(path), batch_size, HANDLER, None))

    def loading(self, name: str, batch_size: int = 1) -> socket.socket:
        """A connection whose model is about to be loaded."""
        connection = self.connect()
        connection.sendall(self.load(name, batch_size))
        return connection

    def loaded(self, name: str, batch_size: int = 1) -> socket.socket:
        """A connection whose model is loaded."""
        connection = self.loading(name, batch_size)
        found = answer(connection)
        assert isinstance(found, Loaded), found
        return connection

    def workers(self) -> list[psutil.Process]:
        """The zygote's workers, each of which leads a process group; its import template does not."""
        return [child for child in psutil.Process(self.process.pid).children() if leads_a_group(child)]

    def stop(self) -> int:
        """The supervisor's part; the zygote's exit status."""
        self.supervisor.close()
        for number in self._outputs:
            os.close(number)
        return self.process.wait(20)


def answer(connection: socket.socket) -> Answer:
    """The next answer on a connection."""
    data = b""
    while True:
        piece = connection.recv(65536)
        assert piece, f"the connection ended after {data!r}"
        data += piece
        found = decode_answer(data)
        if found is not None:
            return found


def request(*commands: str | bytes) -> bytes:
    """REQUESTS for the commanded handler."""
    bodies = [command.encode() if isinstance(command, str) else command for command in commands]
    headers = encode_headers([("Content-Type", "text/plain")])
    return encode_requests(
        [
            wire.Request(f"0123-{place}", headers, [wire.Parameter("body", "text/plain", body)])
            for place, body in enumerate(bodies)
        ]
    )


def predictions(connection: socket.socket, *commands: str | bytes) -> list[Prediction]:
    """What a model answers to a batch of commands."""
    connection.sendall(request(*commands))
    found = answer(connection)
    assert isinstance(found, list), found
    assert len(found) == len(commands)
    return found


def said(connection: socket.socket, command: str) -> str:
    """The text that a model answers a command with."""
    (prediction,) = predictions(connection, command)
    return prediction.body.decode()


@contextmanager
def front_end_in(directory: Path, **environ: str) -> Iterator[FrontEnd]:
    """A zygote, and this test in the place of all its peers."""
    front_end = FrontEnd(directory, **environ)
    front_end.model("m")
    try:
        yield front_end
    finally:
        status = front_end.stop()
    assert status == 0, front_end.log.read_text()
    assert not directory.exists()


@pytest.fixture
def front_end(short_directory: Path) -> Iterator[FrontEnd]:
    """A zygote, and this test in the place of all its peers."""
    with front_end_in(short_directory) as front_end:
        yield front_end


# -- what a connection may say ----------------------------------------------------------------------------------------

NONSENSE = {
    "an unknown kind": frame(b"X" * 20),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "an empty frame": frame(),
    "a negative length": frame(b"R", INT.pack(1), field(b""), INT.pack(-7), bytes(12)),
    "an endless length": LONG.pack(2**60) + b"R",
    "a length beyond the limit": LONG.pack(2 * MIB) + b"R",
    "no requests": frame(b"R", INT.pack(0), field(b"")),
    "text that is none": frame(b"R", INT.pack(1), field(b""), field(b"\xff\xfe"), bytes(12)),
    "bytes after the end": request("echo never") + b"more",
    "a second LOAD": encode_load(wire.Load("m", "/", 1, HANDLER, None)),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_ends_its_connection_and_nothing_else(front_end: FrontEnd, name: str) -> None:
    """A frame that is none ends the connection with a line in the log; the model's other connections go on."""
    with front_end.loaded("m") as other, front_end.loaded("m") as connection:
        connection.sendall(NONSENSE[name])
        assert connection.recv(1) == b""
        assert eventually(lambda: "the connection to the front end is given up" in front_end.output())
        assert said(other, "echo on") == "on"


@pytest.mark.parametrize(
    "data",
    [frame(b"X" * 20), request("echo early"), LONG.pack(2**30) + b"L", request(bytes(MIB)), b""],
    ids=["unknown", "requests", "long", "large requests", "nothing"],
)
def test_nonsense_before_the_load_ends_its_connection_too(front_end: FrontEnd, data: bytes) -> None:
    """What comes in LOAD's place and is none: the zygote, which reads it, says so and goes on."""
    with front_end.connect() as connection:
        connection.sendall(data[:1000])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert eventually(lambda: "a connection of the front end is given up before its LOAD" in front_end.output())
    front_end.loaded("m").close()


def test_a_frame_cut_short_ends_its_connection(front_end: FrontEnd) -> None:
    """The stream ends inside a frame: no answer, and a worker that ends."""
    with front_end.loaded("m") as connection:
        connection.sendall(request("echo never")[:-9])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert eventually(lambda: not front_end.workers())


def test_a_load_can_come_byte_by_byte(front_end: FrontEnd) -> None:
    """LOAD is put together from whatever pieces it comes in; its answer has the pid of the worker."""
    with front_end.connect() as connection:
        for byte in front_end.load("m"):
            connection.sendall(bytes([byte]))
        found = answer(connection)
        assert isinstance(found, Loaded)
        assert said(connection, "pid") == str(found.pid)


def test_a_message_may_be_as_large_as_the_batch(front_end: FrontEnd) -> None:
    """A worker takes as many of the largest requests as its LOAD allows in a batch, and its successor does too."""
    body = b"size".ljust(MIB, b"\0")
    with front_end.loaded("m", batch_size=4) as connection:
        for _ in range(2):
            assert [each.body for each in predictions(connection, *[body] * 4)] == [b"%d" % MIB] * 4
            assert predictions(connection, "vanish 1")[0].status == 500
    with front_end.loaded("m", batch_size=1) as connection:
        assert predictions(connection, body)[0].body == b"%d" % MIB
        with suppress(ConnectionError):  # where it ends before all has been sent
            connection.sendall(request(*[body] * 4))
            assert connection.recv(1) == b""
        assert eventually(lambda: f"the limit is {2 * MIB}" in front_end.output())


# -- models and their connections -------------------------------------------------------------------------------------


def test_the_load_says_which_model(front_end: FrontEnd) -> None:
    """Connections of all models come to one socket; each has the model that its LOAD names."""
    paths = [front_end.model(name) for name in ("first", "second")]
    with front_end.loaded("first") as first, front_end.loaded("second") as second, front_end.loaded("first") as third:
        assert [said(each, "cwd") for each in (first, second, third)] == [str(paths[0]), str(paths[1]), str(paths[0])]


def test_connections_of_one_name_are_of_one_model(short_directory: Path) -> None:
    """What belongs to a model is its workers' together: it is made once, and goes with the last of them."""
    with front_end_in(short_directory, SAGEMAKER_INSTALL_REQUIREMENTS="true") as front_end:
        make_wheel(ask_for(front_end.model("m", "import shade"), "shade\n"), "shade", "1.0")
        packages = front_end.directory / "packages"
        first, second = front_end.loaded("m"), front_end.loaded("m")
        (installed,) = packages.iterdir()
        with first:
            assert said(first, "imported shade") == "True"
        assert eventually(lambda: len(front_end.workers()) == 1)
        with second:
            assert said(second, "imported shade") == "True"
            assert list(packages.iterdir()) == [installed]
        assert eventually(lambda: not list(packages.iterdir()))
        assert front_end.output().count("installing ") == 1
        with front_end.loaded("m") as again:
            assert said(again, "imported shade") == "True"
            assert list(packages.iterdir()) != [installed]


@pytest.mark.parametrize(
    ("on_load", "status", "cause"),
    [
        ("raise", 500, "the secret of the traceback"),
        ("exit 3", 500, "SystemExit"),
        ("vanish 3", 500, "exited with status 3 while it loaded the model"),
        ("die SIGSEGV", 500, "ended by SIGSEGV while it loaded the model"),
        ("memory", 507, "no room for the model"),
        ("die SIGKILL", 507, "killed (SIGKILL) while it loaded the model"),
        ("sleep 60", 500, "did not load within 2 seconds"),
    ],
)
def test_a_load_that_fails(short_directory: Path, on_load: str, status: int, cause: str) -> None:
    """The answer says why, and the log has the same id; 507 where memory was the cause; the name is free at once."""
    with front_end_in(short_directory, SAGEMAKER_STARTUP_TIMEOUT="2") as front_end, front_end.loaded("m") as other:
        front_end.model("broken", on_load)
        for _ in range(2):
            with front_end.loading("broken") as connection:
                found = answer(connection)
                assert isinstance(found, Failed)
                assert found.status == status
                assert cause in found.sentence
                assert f"error id {found.error_id}: " in front_end.output()
                assert found.trace == ""
        front_end.model("broken", "echo")
        with front_end.loaded("broken") as connection:
            assert said(connection, "echo mended") == "mended"
        assert said(other, "echo on") == "on"


def test_a_load_that_fails_is_not_the_end_of_the_model(front_end: FrontEnd) -> None:
    """A model whose further worker cannot be loaded goes on with those that it has."""
    with front_end.loaded("m") as connection:
        front_end.model("m", "memory")
        with front_end.loading("m") as further:
            found = answer(further)
            assert isinstance(found, Failed)
            assert found.status == 507
        assert said(connection, "echo on") == "on"


# -- ends of workers --------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_answered_for_on_the_same_connection(front_end: FrontEnd) -> None:
    """The zygote answers in its place, and a successor goes on: no disconnect is seen."""
    with front_end.loaded("m") as connection:
        for command, status in (("die SIGKILL", 507), ("vanish 1", 500), ("echo on", 200)):
            assert predictions(connection, command)[0].status == status


def test_a_worker_that_dies_is_answered_for_to_all_of_a_batch(front_end: FrontEnd) -> None:
    """Each request of the batch has its answer from the zygote, under one id."""
    with front_end.loaded("m", batch_size=3) as connection:
        found = predictions(connection, "echo 1", "vanish 1", "echo 3")
        assert [each.status for each in found] == [500] * 3
        (error_id,) = {json.loads(each.body)["error"]["id"] for each in found}
        assert f"request 0123-0, 0123-1, 0123-2, error id {error_id}" in front_end.output()
        assert [each.body for each in predictions(connection, "echo 1", "echo 2")] == [b"1", b"2"]


LEAVES_WORD = """
import atexit
import pathlib

atexit.register(pathlib.Path(__file__).with_name("left").touch)
"""


def test_a_connection_that_is_closed_ends_its_idle_worker_orderly(front_end: FrontEnd) -> None:
    """A worker that waits for a request runs what is to run at its end; those of other connections go on."""
    directory = front_end.model("m", "import leaves_word")
    (directory / "leaves_word.py").write_text(LEAVES_WORD)
    with front_end.loaded("m") as other:
        pid = said(other, "pid")
        with front_end.loaded("m") as connection:
            workers = front_end.workers()
            assert said(connection, "pid") != pid
        assert eventually(lambda: [str(worker.pid) for worker in front_end.workers()] == [pid])
        assert (directory / "left").exists()
        assert len(workers) == 2
        assert said(other, "pid") == pid


def test_a_connection_that_is_closed_while_an_answer_is_sent_ends_its_worker_orderly(front_end: FrontEnd) -> None:
    """Its handler has returned, so it ends as one that waits: the front end may close when it has read the answer."""
    directory = front_end.model("m", "import leaves_word")
    (directory / "leaves_word.py").write_text(f"import time\n{LEAVES_WORD}\natexit.register(time.sleep, 0.5)\n")
    with front_end.loaded("m") as connection:
        (worker,) = front_end.workers()
        connection.sendall(request("answer_of 1"))
        assert connection.recv(1)  # the rest is more than the socket holds
    assert eventually(lambda: all_gone([worker]))
    assert (directory / "left").exists()


def test_a_connection_that_is_closed_kills_its_busy_worker(front_end: FrontEnd) -> None:
    """Nobody awaits the answer: the worker is killed with all that it has started, and the next one is loaded."""
    directory = front_end.model("m", "import leaves_word")
    (directory / "leaves_word.py").write_text(LEAVES_WORD)
    with front_end.loaded("m") as other:
        with front_end.loaded("m", batch_size=2) as connection:
            connection.sendall(request("grandchild 60", "sleep 60"))
            (grandchild,) = eventually(lambda: [child for each in front_end.workers() for child in each.children()])
            busy = grandchild.parent()
        assert eventually(lambda: all_gone([busy, grandchild]), 2)
        assert not (directory / "left").exists()
        assert said(other, "echo on") == "on"
        front_end.loaded("m").close()


def test_a_connection_that_is_closed_kills_the_worker_that_loads(front_end: FrontEnd) -> None:
    """Nobody awaits the model: a load that goes on does not keep its name from being loaded again."""
    front_end.model("slow", "sleep 60")
    with front_end.loading("slow"):
        (worker,) = eventually(front_end.workers)
    assert eventually(lambda: all_gone([worker]), 2)
    front_end.model("slow", "echo")
    with front_end.loaded("slow") as connection:
        assert said(connection, "echo on") == "on"


def test_it_serves_where_no_more_files_can_be_opened(front_end: FrontEnd) -> None:
    """A worker that cannot be made is 507, "any other resource"; what is loaded goes on, and so does the zygote."""
    with front_end.loaded("m") as connection:
        limits = resource.prlimit(front_end.process.pid, resource.RLIMIT_NOFILE)
        opened = len(os.listdir(f"/proc/{front_end.process.pid}/fd"))
        resource.prlimit(front_end.process.pid, resource.RLIMIT_NOFILE, (opened + 3, limits[1]))
        with front_end.loading("m") as refused:
            found = answer(refused)
            assert isinstance(found, Failed)
            assert found.status == 507
        assert "no worker can be made for model m, error id " in front_end.output()
        assert said(connection, "echo on") == "on"
        resource.prlimit(front_end.process.pid, resource.RLIMIT_NOFILE, limits)
        front_end.loaded("m").close()
