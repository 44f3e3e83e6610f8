# SPDX-License-Identifier: Apache-2.0
"""What is done once, while an image is built, so that its containers start faster."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.mms import cds_archive, command, java, native_library

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_DUMP_SECONDS = 120.0
_REQUEST_SECONDS = 20.0

# What the rehearsed server serves.
_HANDLER = "def handle(data, context):\n    return data and [b'answer'] * len(data)\n"

# What it is asked: all that a server does whose classes are worth having at hand.
_REQUESTS = (
    ("GET", "/ping", ""),
    ("GET", "/execution-parameters", ""),
    ("POST", "/models", '{{"model_name": "m", "url": "{directory}"}}'),
    *[("POST", "/models/m/invoke", "question")] * 20,
    ("POST", "/models/nobody/invoke", "question"),
    ("GET", "/models", ""),
    ("GET", "/models/m", ""),
    ("DELETE", "/models/m", ""),
)


class Archive(NamedTuple):
    """An archive of the front end's classes.

    Attributes:
        path: The file.
        size: Its bytes.
        seconds: How long it took to make.
    """

    path: Path
    size: int
    seconds: float


class Prepared(NamedTuple):
    """What was made.

    Attributes:
        java: The Java that it is for.
        library: The front end's native library.
        archive: None where Java is too old for one.
    """

    java: java.Java
    library: Path
    archive: Archive | None


def prepare(environ: Mapping[str, str]) -> Prepared:
    """Unpack the front end's native library, and archive its classes for the Java that a server would take.

    Raises:
        LaunchError: Java or multi-model-server is not there, the package's directory cannot be written to, or a step
            failed; the message says which, and what it printed.
    """
    server_jar = command.find_model_server_jar()
    found = java.find_java(environ)
    try:
        library = native_library.unpack(server_jar)
        if found.version < cds_archive.OLDEST_VERSION:
            return Prepared(found, library, None)
        return Prepared(found, library, _archive_classes(found, command.class_path(server_jar), environ))
    except OSError as error:
        raise LaunchError(
            f"The package's directory cannot be written to: {error}. Whoever installed the package can, while the "
            "image is built."
        ) from error


def _archive_classes(found: java.Java, jars: tuple[Path, ...], environ: Mapping[str, str]) -> Archive:
    """Make the archive (mms/cds_archive.py). A server is started for it, on no port, and asked a few things."""
    begun = time.monotonic()
    archive = cds_archive.archive_path(found, jars)
    archive.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sil-") as scratch:
        classes = Path(scratch, "classes")
        _rehearse(Path(scratch), classes, environ)
        # Beside its place, and moved there whole: a server that starts meanwhile finds it or does not.
        made = archive.with_suffix(f".{os.getpid()}")
        _run(cds_archive.dump_command(found, jars, command.fixed_flags(found.version), classes, made), _DUMP_SECONDS)
        made.replace(archive)
    return Archive(archive, archive.stat().st_size, time.monotonic() - begun)


def _rehearse(scratch: Path, classes: Path, environ: Mapping[str, str]) -> None:
    """Run a server whose Java lists the classes that it loads."""
    (scratch / "handler.py").write_text(_HANDLER)
    (scratch / "model").mkdir()
    code = "from sagemaker_inference_lite import model_server; model_server.start_model_server()"
    settings = {
        **cds_archive.rehearsal_environ(environ, scratch / "socket", classes),
        "SAGEMAKER_HANDLER": f"{scratch / 'handler.py'}:handle",
        "TMPDIR": str(scratch),
    }
    with open(scratch / "log", "w+b") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            env=settings,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_it_answers(server, scratch / "socket")
            for method, path, body in _REQUESTS:
                _ask(scratch / "socket", method, path, body.format(directory=scratch / "model"))
            server.send_signal(signal.SIGTERM)
            status = server.wait(_STOP_SECONDS)
        except (OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
            raise _failed(f"A server started for it did not answer: {error}", log.name) from error
        finally:
            server.kill()
            server.wait()
    if status or not classes.is_file():
        raise _failed(f"A server started for it ended with status {status}", log.name)


def _wait_until_it_answers(server: subprocess.Popen[bytes], address: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            _ask(address, "GET", "/ping", "")
            return
        time.sleep(0.02)
    raise TimeoutError(f"status {server.returncode} after {_START_SECONDS:.0f} seconds at the most")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: Path) -> None:
        super().__init__("localhost", timeout=_REQUEST_SECONDS)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_REQUEST_SECONDS)
        self.sock.connect(str(self._address))


def _ask(address: Path, method: str, path: str, body: str) -> None:
    connection = _UnixConnection(address)
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/json"})
        connection.getresponse().read()
    finally:
        connection.close()


def _run(argv: list[str], limit_seconds: float) -> None:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LaunchError(f"Java did not make the archive within {limit_seconds:.0f} seconds.") from None
    if done.returncode:
        raise LaunchError(f"Java did not make the archive: status {done.returncode}: {done.stdout.strip()[-500:]}")


def _failed(sentence: str, log: str) -> LaunchError:
    return LaunchError(f"{sentence}. It printed: {Path(log).read_text(errors='replace').strip()[-2000:]}")
