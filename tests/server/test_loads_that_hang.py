# SPDX-License-Identifier: Apache-2.0
"""Loads whose files do not come: they end within their limit, and nothing else waits for them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Callable

import pytest
import requests
from running_server import Server, eventually

pytestmark = pytest.mark.once

# ReadingThreads.java
THREADS = 16
LIMIT = 2


class Dripping:
    """An HTTP server whose answer never ends: to whoever reads from it, it is a disk that hangs.

    A read that waits for ever cannot be brought about with files alone; what is read from makes no difference.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._ended = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # end() closes the listener
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._drip, args=(connection,), daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not self._ended.wait(0.2):
                connection.sendall(b"X: y\r\n")

    def end(self) -> None:
        """End all answers, unfinished."""
        self._ended.set()
        # A thread that waits in accept() does not notice close().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    """A server to load models from, which never come."""
    server = Dripping()
    yield server
    with suppress(OSError):
        server.end()


@contextmanager
def pinging(server: Server) -> Iterator[None]:
    """Ask for /ping all the while: each must be 200, and come within 2 s, the platform's limit."""
    done = threading.Event()
    wrong: list[str] = []

    def ping() -> None:
        while not done.is_set():
            try:
                answer = requests.get(server.url + "/ping", timeout=2)
                if answer.status_code != 200:
                    wrong.append(str(answer.status_code))
            except requests.RequestException as error:
                wrong.append(repr(error))
            done.wait(0.05)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert wrong == []


def load_from(server: Server, url: str, name: str, seconds: float = 20) -> requests.Response:
    """Load a model from there."""
    return requests.post(server.url + "/models", json={"model_name": name, "url": url}, timeout=seconds)


def test_loads_that_hang_hold_nobody_up(start: Callable[..., Server], dripping: Dripping) -> None:
    """With all threads but one stuck, /ping, lists, other loads and DELETE are as ever; each load ends at its limit.

    One thread more, whose client has gone, and further loads are refused at once; when the files come, all is well.
    """
    server = start(
        SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_ALLOW_MODEL_DOWNLOAD="true", SAGEMAKER_STARTUP_TIMEOUT=str(LIMIT)
    ).ready()
    with ThreadPoolExecutor(THREADS) as pool, pinging(server):
        begun = time.monotonic()
        urls = [f"{dripping.url}/{number}" for number in range(THREADS)]
        hung = [pool.submit(load_from, server, url, f"m{number}") for number, url in enumerate(urls[:-1])]
        while time.monotonic() - begun < LIMIT - 1:
            assert server.load("good").status_code == 200
            assert server.listed() == ["good"]
            assert server.unload("good").status_code == 200
        for each in hung:
            answer = each.result()
            assert answer.status_code == 500
            assert f"could not be read within {LIMIT} seconds (SAGEMAKER_STARTUP_TIMEOUT)" in answer.json()["message"]
        assert LIMIT <= time.monotonic() - begun < LIMIT + 3
        again = load_from(server, urls[0], "m0", seconds=2)
        assert again.status_code == 503
        assert "An earlier load still waits" in again.json()["message"]
        with pytest.raises(requests.Timeout):
            load_from(server, urls[-1], "last", seconds=0.5)
        assert eventually(lambda: load_from(server, "/x", "x").status_code == 503, LIMIT + 5)
        refused = load_from(server, "/x", "x", seconds=2)
        assert f"All {THREADS} threads" in refused.json()["message"]
        assert server.listed() == []
        dripping.end()
        assert eventually(lambda: server.load("good").status_code == 200)
        assert server.invoke("echo on", "good").text == "on"
    assert server.stop() == 0


MANIFESTS = ("MAR-INF/MANIFEST.json", "MANIFEST.json")


@pytest.mark.parametrize("place", MANIFESTS)
def test_a_manifest_that_is_no_file_is_refused_unopened(multi: Server, model: str, place: str) -> None:
    """A named pipe, on which a reader would wait for ever, and a directory."""
    directory = multi.base_dir / "models" / model / "model"
    manifest = directory / place
    manifest.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(manifest)
    with pinging(multi):
        for _ in range(4):
            answer = load_from(multi, str(directory), model, seconds=2)
            assert answer.status_code == 400
            assert f"The manifest is not a regular file: {manifest}" in answer.json()["message"]
    manifest.unlink()
    manifest.mkdir()
    assert load_from(multi, str(directory), model).status_code == 400
    manifest.rmdir()
    assert multi.load(model).status_code == 200
    multi.unload(model)


BAD_MANIFESTS = {
    "too large": (b" " * ((1 << 20) + 1), "larger than 1048576 bytes"),
    "nothing": (b"", "is empty"),
    "null": (b"null", "is empty"),
    "no JSON": (b"{", "is not JSON"),
    "a list": (b"[]", "is not JSON"),
    "deep": (b'{"model": {"extensions": {"a": ' + b"[" * 100_000, "is not JSON"),
    "no model": (b'{"model": null}', "Missing Model entry"),
}


@pytest.mark.parametrize("kind", BAD_MANIFESTS)
def test_a_manifest_that_cannot_be_used_is_400(multi: Server, model: str, kind: str) -> None:
    """The answer says what is wrong with it; the front end's heap is not spent on it."""
    content, reason = BAD_MANIFESTS[kind]
    directory = multi.base_dir / "models" / model / "model"
    (directory / "MAR-INF").mkdir(parents=True)
    (directory / "MAR-INF" / "MANIFEST.json").write_bytes(content)
    answer = load_from(multi, str(directory), model)
    assert answer.status_code == 400
    assert reason in answer.json()["message"]
    assert multi.listed() == []


def test_another_programs_manifest_is_none_of_ours(multi: Server, model: str) -> None:
    """A MANIFEST.json beside a model, which MMS 0.1 would have understood, may be anything."""
    directory = multi.base_dir / "models" / model / "model"
    directory.mkdir(parents=True)
    (directory / "MANIFEST.json").write_text('{"files": []}')
    assert multi.load(model).status_code == 200
    multi.unload(model)


def test_what_is_neither_directory_nor_archive_is_400(multi: Server, model: str) -> None:
    """A pipe, a device, a text and an empty file: nothing is loaded from them, and nobody waits."""
    pipe, text, empty = (multi.base_dir / f"{model}-{name}" for name in ("pipe", "text", "empty"))
    os.mkfifo(pipe)
    text.write_text("no archive")
    empty.touch()
    for place in (pipe, text, empty, "/dev/zero"):
        assert load_from(multi, str(place), model, seconds=5).status_code == 400
    assert multi.listed() == []
