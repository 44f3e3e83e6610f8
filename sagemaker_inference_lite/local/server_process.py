# SPDX-License-Identifier: Apache-2.0
"""The server as a child process, and all that happens to it as one stream of typed events."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, NamedTuple

from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.local import server_events
from sagemaker_inference_lite.runtime import processes
from sagemaker_inference_lite.runtime.processes import kill_group

_RUNNER = "sagemaker_inference_lite.local.runner"

# Lines that wait to be shown. The server's log drops lines rather than wait for whoever reads them.
_MOST_LINES = 1000

# How long its end may take where nothing in flight is waited for, and its last lines then.
_END_SECONDS = 5.0
_LAST_LINES_SECONDS = 1.0


class Output(NamedTuple):
    """A line that the server, or a model, has printed."""

    line: str


class Ended(NamedTuple):
    """The server's process has ended.

    Attributes:
        status: Its exit status, or 128 + the signal that ended it.
        how: The second half of a sentence, such as "ended with status 3".
    """

    status: int
    how: str


class Signalled(NamedTuple):
    """This process got a signal."""

    number: int


class EventStream:
    """Events in their order, from threads and signal handlers to the one who reads them."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(_MOST_LINES)

    def put(self, event: Any) -> None:
        """Add an event. Signal handlers may."""
        self._events.put(event)

    def put_line(self, line: str) -> None:
        """Add a line of output, once there is room for one."""
        self._room.acquire()
        self._events.put(Output(line))

    def get(self) -> Any:
        """The next event, waited for."""
        event = self._events.get()
        if isinstance(event, Output):
            self._room.release()
        return event


class ServerProcess:
    """A server of this person's. Leaving it ends the server, in whatever state it is.

    The server is in a session of its own, so that a terminal's Ctrl-C reaches this process alone. It stops by itself,
    and removes the directory, when this process is gone.

    Args:
        environ: Its whole environment.
        directory: The private directory.
        lock: A descriptor that it has open for as long as it lives.
        reloads_handler: Have each worker import the handler service, so that SIGHUP takes in what has changed in it.
        events: Where its lines and its end are put; ``Ended`` comes last.

    Raises:
        LaunchError: It cannot be started.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        directory: Path,
        lock: int,
        events: EventStream,
        reloads_handler: bool = False,
    ) -> None:
        self._events = events
        theirs, self._lifeline = os.pipe()
        from_server, to_us = os.pipe()
        argv = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", _RUNNER]
        argv += [str(theirs), str(to_us), str(directory)]
        argv += ["--reloads-handler"] if reloads_handler else []
        try:
            self._process = subprocess.Popen(
                argv,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs, to_us, lock),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._lifeline)
            os.close(from_server)
            raise LaunchError(f"The server cannot be started: {sys.executable}: {error.strerror or error}") from error
        finally:
            os.close(theirs)
            os.close(to_us)
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_events, args=(from_server,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._wait_for_end, daemon=True).start()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def send(self, number: Signals) -> None:
        """Send the server a signal; nothing happens where it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def end(self) -> None:
        """End it at once, where it has not ended, and reap it."""
        if self._process.poll() is None:
            self.send(SIGTERM)
            self.send(SIGTERM)  # a second one waits for nothing
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        if self._process.poll() is None:
            self.send(SIGKILL)
        self._process.wait()
        kill_group(self._process.pid)
        with suppress(OSError):
            os.close(self._lifeline)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._events.put_line(line.decode(errors="replace").rstrip("\r\n"))

    def _read_events(self, descriptor: int) -> None:
        with open(descriptor, "rb") as lines:
            for line in lines:
                self._events.put(server_events.parse(line))

    def _wait_for_end(self) -> None:
        returncode = self._process.wait()
        for reader in self._readers:
            reader.join(_LAST_LINES_SECONDS)
        self._events.put(Ended(processes.exit_code(returncode), processes.describe(returncode)))
