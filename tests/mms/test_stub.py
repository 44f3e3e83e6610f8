# SPDX-License-Identifier: Apache-2.0
"""The program that Java starts for each model: hands the model over, says so, and waits in next to no memory."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from running_server import eventually

from sagemaker_inference_lite.mms.command import HOME

STUB = HOME / "mms" / "model_service_worker.py"
READY = b"MMS worker started.\n"
SECONDS = 10

# Modules of the standard library that a model may have files of the same name of.
HOSTILE_NAMES = ("_socket", "json", "re", "signal", "socket", "struct", "tempfile", "time", "typing")


class Stub:
    """A running stub, and the end of its connection that the zygote has."""

    def __init__(self, process: subprocess.Popen[bytes], listener: socket.socket) -> None:
        self.process = process
        self._listener = listener

    def accept(self) -> tuple[socket.socket, dict[str, Any]]:
        """The connection, and what came over it as the first line."""
        self._listener.settimeout(SECONDS)
        connection, _ = self._listener.accept()
        connection.settimeout(SECONDS)
        with connection.makefile("rb") as lines:
            return connection, json.loads(lines.readline())

    def printed(self, seconds: float = SECONDS) -> bytes:
        """What it has printed next; nothing where that takes longer."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        return os.read(self.process.stdout.fileno(), 65536) if readable else b""

    def complaints(self) -> bytes:
        """All that it has written to stderr, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def close_stdin(self) -> int:
        """End as the front end ends; returns the stub's exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(SECONDS)

    def status(self, name: str) -> bytes:
        """A file of its /proc directory."""
        return Path(f"/proc/{self.process.pid}/{name}").read_bytes()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """This Python, without installed packages: some, what measures coverage among them, are imported at each start."""
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, symlinks=True)
    return str(directory / "bin" / "python")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory as the server has it: its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="stub-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def start(python: str, directory: Path, tmp_path: Path) -> Iterator[Callable[..., Stub]]:
    """Starts stubs as Java does: in the model's directory, with pipes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stubs: list[Stub] = []

    def starter(*program: str, zygote: bool = True, pythonpath: str = "") -> Stub:
        if zygote:
            listener.bind(str(directory / "zygote.sock"))
            listener.listen()
        argv = [python, *(program or (str(STUB),)), *arguments_of(directory, tmp_path)]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": pythonpath, "PYTHONDONTWRITEBYTECODE": "1"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path, env=environ)
        stubs.append(Stub(process, listener))
        return stubs[-1]

    with listener:
        yield starter
        for stub in stubs:
            with stub.process:
                stub.process.kill()


def arguments_of(directory: Path, model_path: Path) -> list[str]:
    """The arguments that Java gives (WorkerLifeCycle.java:110-178)."""
    options = options_of(directory, model_path)
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def options_of(directory: Path, model_path: Path) -> dict[str, str]:
    """The same by their names."""
    return {
        "sock-type": "unix",
        "sock-name": f"{directory}/.mms.sock.9000",
        "handler": "/code/handler.py:handle",
        "model-path": str(model_path),
        "model-name": "a model",
        "preload-model": "false",
        "tmp-dir": str(directory),
    }


def test_hands_its_arguments_over(start: Callable[..., Stub], directory: Path, tmp_path: Path) -> None:
    """The zygote gets every argument by its name, and the stub's pid, as one line of JSON."""
    stub = start()
    connection, options = stub.accept()
    with connection:
        assert options == {**options_of(directory, tmp_path), "pid": stub.process.pid}


def test_ready_is_said_after_the_zygote_listens(start: Callable[..., Stub]) -> None:
    """Java connects as soon as it has seen the line, so nothing is printed before the zygote has answered."""
    stub = start()
    connection, _ = stub.accept()
    with connection:
        assert stub.printed(0.1) == b""
        connection.send(b"+")
        assert stub.printed() == READY


def test_waits_in_little_memory(start: Callable[..., Stub]) -> None:
    """Afterwards it is a program of well under a megabyte, in a directory that can be unmounted, without secrets."""
    stub = start()
    connection, _ = stub.accept()
    with connection:
        connection.send(b"+")
        assert stub.printed() == READY
        eventually(lambda: stub.status("cmdline") == b"model-stub\0", SECONDS)
        lines = stub.status("smaps_rollup").decode().splitlines()
        assert next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) < 1024
        assert stub.status("environ") == b""
        assert os.readlink(f"/proc/{stub.process.pid}/cwd") == "/"
        assert stub.process.poll() is None


def test_ends_with_the_front_end(start: Callable[..., Stub]) -> None:
    """The end of its stdin, which Java holds, is its own end and its connection's, by which the zygote sees it."""
    stub = start()
    connection, _ = stub.accept()
    with connection:
        connection.send(b"+")
        assert stub.printed() == READY
        assert stub.close_stdin() == 0
        assert connection.recv(1) == b""
    assert stub.printed() == b""
    assert stub.complaints() == b""


@pytest.mark.parametrize("acknowledged", [True, False])
def test_connection_ends_when_it_is_killed(start: Callable[..., Stub], acknowledged: bool) -> None:
    """Java kills it to unload the model: whenever that is, its connection ends, and nobody else holds it open."""
    stub = start()
    connection, _ = stub.accept()
    with connection:
        if acknowledged:
            connection.send(b"+")
            assert stub.printed() == READY
        stub.process.kill()
        assert connection.recv(1) == b""


def test_without_a_zygote(start: Callable[..., Stub]) -> None:
    """Where no zygote is, the line is said all the same, or Java would wait a minute for it; the log has the reason."""
    stub = start(zygote=False)
    assert stub.printed() == READY
    assert stub.close_stdin() == 0
    assert b"the model was not handed over" in stub.complaints()


def test_a_zygote_that_hangs_up(start: Callable[..., Stub]) -> None:
    """The same where the zygote ends without an answer."""
    stub = start()
    connection, _ = stub.accept()
    connection.close()
    assert stub.printed() == READY
    assert stub.close_stdin() == 0


@pytest.mark.parametrize("form", ["{0}", "{0}/", "hostile", "./hostile/", "/nowhere:{0}:", ":{0}"])
def test_nothing_stands_in_for_the_standard_library(start: Callable[..., Stub], tmp_path: Path, form: str) -> None:
    """Java puts handler's and model's directories on PYTHONPATH; a json.py there, however spelt, is not imported."""
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for directory in (hostile, tmp_path):  # the latter is the working directory, which an empty entry means
        for name in HOSTILE_NAMES:
            (directory / f"{name}.py").write_text(f"import os\nos.write(1, b'{name} of the model')\nos._exit(9)\n")
    stub = start(pythonpath=form.format(hostile))
    connection, options = stub.accept()
    with connection:
        assert options["model-name"] == "a model"
        connection.send(b"+")
        assert stub.printed() == READY
        assert stub.close_stdin() == 0


def test_without_a_smaller_program(start: Callable[..., Stub]) -> None:
    """Where there is no cat to turn into, it waits itself, to the same end."""
    program = f"import os, runpy; os.access = lambda *_: False; runpy.run_path({str(STUB)!r}, run_name='__main__')"
    stub = start("-c", program)
    connection, _ = stub.accept()
    with connection:
        connection.send(b"+")
        assert stub.printed() == READY
        assert stub.process.poll() is None
        assert stub.close_stdin() == 0
        assert connection.recv(1) == b""


def test_the_collector_of_metrics_reads_its_input(python: str) -> None:
    """What Java starts for metrics reads the pids that Java writes, prints nothing and ends."""
    program = HOME / "mms" / "metrics" / "metric_collector.py"
    argv = [python, str(program)]
    outcome = subprocess.run(argv, input=b"1,2,3", capture_output=True, env={}, timeout=SECONDS)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"", b"")
