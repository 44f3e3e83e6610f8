# SPDX-License-Identifier: Apache-2.0
"""The supervisor as the zygote sees it: what it is told, and that nothing here outlives it."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

from sagemaker_inference_lite.ipc.events import Description

# An event must reach the supervisor in one piece of 64 KiB, in which a character may take twelve bytes.
_LONGEST_MESSAGE = 5_000

_REMOVE_SECONDS = 2.0


class Supervisor:
    """The process that has started this one. It never says anything.

    Attributes:
        sock: Can be read from when it has ended.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def tell(self, event: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Tell it what happens here, and give it files to read from."""
        with suppress(OSError):  # its end is seen where it is read from
            socket.send_fds(self.sock, [json.dumps(event).encode()], list(descriptors))

    def tell_failure(self, message: str) -> None:
        """Tell it why this process ends."""
        self.tell({"event": "handler failed", "message": message[:_LONGEST_MESSAGE]})

    def tell_model_failure(self, message: str) -> None:
        """Tell it that the one model of this server cannot be served, and why."""
        self.tell({"event": "model failed", "message": message[:_LONGEST_MESSAGE]})

    def tell_load(self, model: str, milliseconds: int, description: Description | None) -> None:
        """Tell it that the first worker of a model has loaded it."""
        self.tell(
            {"event": "model loaded", "model": model, "milliseconds": milliseconds, "description": description or []}
        )

    def tell_failed_load(self, model: str, message: str) -> None:
        """Tell it that a worker of a model could not load it, whatever comes of that."""
        self.tell({"event": "load failed", "model": model, "message": message[:_LONGEST_MESSAGE]})

    def tell_reload(self, model: str, seconds: float) -> None:
        """Tell it that a model has been loaded anew, by workers that are about to take over."""
        self.tell({"event": "model reloaded", "model": model, "seconds": seconds})

    def tell_failed_reload(self, model: str, message: str) -> None:
        """Tell it that a model could not be loaded anew."""
        self.tell({"event": "reload failed", "model": model, "message": message[:_LONGEST_MESSAGE]})

    def watch(self, directory: Path) -> Callable[[], None]:
        """End this process when the supervisor is gone, though an import is under way that takes its time, or hangs.

        Args:
            directory: Removed before that.

        Returns:
            To be called before the first fork, by which the thread that watches must be gone.
        """
        receiver, sender = socket.socketpair()

        def watch() -> None:
            readable, _, _ = select.select([self.sock, receiver], [], [])
            if receiver not in readable:
                remove(directory)
                os._exit(1)

        thread = threading.Thread(target=watch, name="supervisor-watch", daemon=True)
        thread.start()

        def stop_watching() -> None:
            sender.send(b".")
            thread.join()
            sender.close()
            receiver.close()

        return stop_watching


def remove(directory: Path) -> None:
    """Remove a directory into which Java, which is about to notice that it is to end, may be writing still."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.01)
