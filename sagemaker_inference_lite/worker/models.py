# SPDX-License-Identifier: Apache-2.0
"""What the zygote knows: the models that MMS has registered, and the connections of their workers."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import Any, NamedTuple

from sagemaker_inference_lite.mms import wire
from sagemaker_inference_lite.worker import worker
from sagemaker_inference_lite.worker.connection import Connection
from sagemaker_inference_lite.worker.slot_page import SlotPage

_STUB_SECONDS = 5.0


class Announcement(NamedTuple):
    """What a stub (mms/home) says of its model.

    Attributes:
        model_name: The name under which MMS has registered it.
        pid: The stub's own process.
        address: Where MMS will connect a worker: the path of a unix socket, or a port of 127.0.0.1.
    """

    model_name: str
    pid: int
    address: str | int


class Model:
    """A model that MMS has registered: its stub's connection, where its workers connect, and those that did."""

    def __init__(self, announcement: Announcement, stub: socket.socket) -> None:
        self.name = announcement.model_name
        self.stub = stub
        self.stub_pid = announcement.pid
        self.listener = _listen(announcement.address)
        self.slots: list[Slot] = []

    def unlink_address(self) -> None:
        """Remove the listener's file, which MMS leaves behind when it unloads a model (WorkerLifeCycle.java, exit)."""
        name = self.listener.getsockname()
        if isinstance(name, str):
            with suppress(OSError):
                os.unlink(name)


class Slot:
    """One connection of MMS's, and the worker that serves it at the moment, if any does.

    Attributes:
        load: MMS's LOAD, None until it has come.
        pid: The worker; None where there is none at the moment.
        events: Where the worker says that it has loaded the model.
        loaded: This worker has.
        answered_load: MMS has its answer to LOAD, from this worker or from one before it.
        load_deadline: When the worker must have loaded, on time.monotonic()'s clock.
        last_word: What the worker said last.
        failed_tries: How often in a row the model could not be loaded.
        killed_because: Why the zygote has ended the worker.
        awaits_507: LOAD is about to be answered with 507.
        closed: The connection is given up; a worker may still be about to end.
    """

    def __init__(self, model: Model, connection: Connection, page: SlotPage) -> None:
        self.model = model
        self.connection = connection
        self.page = page
        self.load: wire.Load | None = None
        self.pid: int | None = None
        self.events: socket.socket | None = None
        self.loaded = False
        self.answered_load = False
        self.load_deadline = float("inf")
        self.killed_because: worker.Refusal | None = None
        self.last_word = b""
        self.failed_tries = 0
        self.awaits_507 = False
        self.closed = False

    def release(self) -> None:
        """Close the connection, once no worker uses it."""
        # A worker that was forked in between may hold a copy, and MMS must see the end all the same.
        with suppress(OSError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.sock.close()


def read_announcement(stub: socket.socket) -> Announcement:
    """What a stub that has just connected says.

    Raises:
        OSError: it went away, or took longer than five seconds.
        ValueError: it is not what a stub says.
        KeyError: likewise.
    """
    stub.settimeout(_STUB_SECONDS)
    line = b""
    while not line.endswith(b"\n"):
        piece = stub.recv(65536)
        if not piece:
            raise ValueError(f"the stream ended after {line!r}")
        line += piece
    options: dict[str, Any] = json.loads(line)
    address = options["sock-name"] if options["sock-type"] == "unix" else int(options["port"])
    return Announcement(options["model-name"], int(options["pid"]), address)


def _listen(address: str | int) -> socket.socket:
    """Listen where MMS was told that the model's process would."""
    if isinstance(address, str):
        with suppress(FileNotFoundError):
            os.unlink(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(address)
    else:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", address))
    listener.listen(128)
    listener.setblocking(False)
    return listener
