# SPDX-License-Identifier: Apache-2.0
"""Clients beside an attack: whether the server stays there for everybody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
from running_server import Server

SECONDS = 2.0


@contextmanager
def others_are_served(server: Server, seconds: float = SECONDS) -> Iterator[None]:
    """While the block runs, each /ping is 200 in less than two seconds, and another client's requests are answered.

    Args:
        seconds: How long the other client waits at most for its turn with a worker.
    """
    ended = threading.Event()
    wrong: list[str] = []

    def ping() -> None:
        begun = time.monotonic()
        status = requests.get(server.url + "/ping", timeout=30).status_code
        _note(wrong, "ping", status, begun, SECONDS)

    def ask() -> None:
        begun = time.monotonic()
        _note(wrong, "ask", server.invoke("echo on").status_code, begun, seconds)

    threads = [threading.Thread(target=_until, args=(ended, call, wrong)) for call in (ping, ask)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong


def _until(ended: threading.Event, call: Callable[[], None], wrong: list[str]) -> None:
    while True:  # once more when the block has ended: an attack's end is a part of it
        last = ended.is_set()
        try:
            call()
        except requests.RequestException as error:
            wrong.append(repr(error))
        if last:
            return
        ended.wait(0.02)


def _note(wrong: list[str], what: str, status: int, begun: float, seconds: float) -> None:
    taken = time.monotonic() - begun
    if status != 200 or taken >= seconds:
        wrong.append(f"{what}: {status} after {taken:.2f} s")
