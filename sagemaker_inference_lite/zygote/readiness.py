# SPDX-License-Identifier: Apache-2.0
"""Tells the front end whether the one model of single-model mode is loaded, for /ping (Readiness.java)."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from sagemaker_inference_lite.zygote.event_loop import EventLoop

logger = logging.getLogger(__name__)

_WORDS = {True: b"1", False: b"0"}


class Readiness:
    """A connection to the front end on which each change is one byte. It takes the end of it for "not loaded".

    The word is there to be read before anything that is sent afterwards, on whatever connection.

    Args:
        path: Where the front end listens.
        loop: Closes the connection in children, which must not speak for this process.
    """

    def __init__(self, path: Path, loop: EventLoop) -> None:
        self._path = path
        self._loop = loop
        self._sock: socket.socket | None = None
        self._told = False

    def tell(self, ready: bool) -> None:
        """Say so, if it is not what has been said last."""
        if ready == self._told:
            return
        try:
            sock = self._sock = self._sock or self._connect()
            sock.send(_WORDS[ready])
            self._told = ready
        except (ConnectionRefusedError, FileNotFoundError):
            # It is on its way up, and each change of the workers is another try; or down, which others tell of.
            self.close()
        except OSError as error:
            logger.warning("the front end cannot be told whether the model is loaded: %s", error)
            self.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        self._loop.watch(sock, self.close)  # it never says anything, so this is its end
        return sock

    def close(self) -> None:
        """Hang up. The next tell() connects again."""
        if self._sock is not None:
            self._loop.drop(self._sock)
            self._sock = None
        self._told = False
