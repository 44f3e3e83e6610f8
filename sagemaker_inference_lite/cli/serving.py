# SPDX-License-Identifier: Apache-2.0
"""A server from its start to its end, as ``serve`` shows it and as a person's Ctrl-C wants it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from types import FrameType
from typing import Any, NamedTuple

from sagemaker_inference_lite.cli.serve_screen import Served, ServeScreen
from sagemaker_inference_lite.errors import ModelLoadError, PortInUseError
from sagemaker_inference_lite.local import environment, management
from sagemaker_inference_lite.local.environment import Asked
from sagemaker_inference_lite.local.layout import Layout, laid_out
from sagemaker_inference_lite.local.management import Loaded, LoadFailed
from sagemaker_inference_lite.local.model_paths import Models
from sagemaker_inference_lite.local.server_process import Ended, EventStream, Output, ServerProcess, Signalled

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.05

# Another process may take the port that was free a moment ago.
_MOST_STARTS = 3


class Phase(Enum):
    """How far a server is."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class _Ready(NamedTuple):
    """The server answers /ping with 200."""


class PortTakenError(PortInUseError):
    """The port that was asked for is taken."""


class Serving:
    """Serves models until it is asked to stop.

    Args:
        environ: This process's environment.
        asked: What the options say.
        port: The port that was asked for; None for any.
        models: What to serve.
        screen: Where it shows what happens.
    """

    def __init__(
        self, environ: Mapping[str, str], asked: Asked, port: int | None, models: Models, screen: ServeScreen
    ) -> None:
        self._environ = environ
        self._asked = asked
        self._wanted_port = port
        self._models = models
        self._screen = screen
        self._events = EventStream()
        self._phase = Phase.STARTING
        self._has_served = False
        self._stops: list[int] = []
        self._loaded: dict[str, float] = {}
        self._failed: dict[str, str] = {}

    def run(self) -> int:
        """Serve; the exit status.

        Raises:
            LaunchError: It cannot start. The message says why.
        """
        if self._wanted_port is not None and not environment.is_free(self._asked.host, self._wanted_port):
            raise PortTakenError(
                f"Port {self._wanted_port} of {self._asked.host} is in use. End the process that listens on it, or "
                "leave --port out for a free one."
            )
        with _stoppable() as signals, laid_out(self._models) as layout:
            signals.put_into(self._events)
            self._screen.show_instead(layout.shown)
            try:
                return self._serve(layout)
            finally:
                self._screen.close()

    def _serve(self, layout: Layout) -> int:
        for _ in range(_MOST_STARTS):
            port = self._wanted_port or environment.port_for(self._asked.host)
            ended = self._serve_at(port, layout)
            taken = ended.status == PortInUseError.exit_code and not environment.is_free(self._asked.host, port)
            if self._wanted_port is not None or not taken:
                break
        return self._status(ended)

    def _serve_at(self, port: int, layout: Layout) -> Ended:
        """One run of the server's process."""
        several = self._models.several
        environ = environment.server_environment(
            self._environ, self._asked, layout.base_dir, layout.temporary, port, several
        )
        if self._wanted_port is None and port != environment.DEFAULT_PORT:
            self._screen.note(f"Port {environment.DEFAULT_PORT} is in use; this server takes {port}.")
        with ServerProcess(environ, layout.base_dir, layout.lock, self._events) as server:
            self._screen.progress("starting" if several else f"loading {self._models.models[0].name}")
            self._in_background(self._wait_until_ready, port)
            while True:
                event = self._events.get()
                if isinstance(event, Ended):
                    return event
                self._take(event, server, port, layout)

    def _take(self, event: Any, server: ServerProcess, port: int, layout: Layout) -> None:
        if isinstance(event, Output):
            self._screen.server_line(event.line)
        elif isinstance(event, Signalled):
            self._signalled(event.number, server)
        elif isinstance(event, _Ready):
            if self._models.several:
                self._in_background(self._load_all, port, layout)
            else:
                self._show_served(port)
        elif isinstance(event, (Loaded, LoadFailed)):
            self._take_load(event, server, port)

    def _take_load(self, event: Loaded | LoadFailed, server: ServerProcess, port: int) -> None:
        if isinstance(event, Loaded):
            self._loaded[event.name] = event.seconds
            self._screen.note(f"{event.name}: loaded in {event.seconds:.2f} s", "green")
        else:
            self._failed[event.name] = event.message
            self._screen.note(f"{event.name}: not loaded: {self._screen.as_shown(event.message)}", "red")
        if len(self._loaded) + len(self._failed) < len(self._models.models):
            return
        if self._loaded:
            self._show_served(port)
        else:
            server.send(signal.SIGTERM)

    def _show_served(self, port: int) -> None:
        address = f"http://{self._asked.host}:{port}"
        self._phase = Phase.SERVING
        self._has_served = True
        served = []
        for model in self._models.models:
            if model.name in self._failed:
                continue
            url = f"{address}/models/{model.name}/invoke" if self._models.several else f"{address}/invocations"
            served.append(Served(model.name, "", str(model.path), url, "application/json", None))
        self._screen.banner(served, address)

    def _signalled(self, number: int, server: ServerProcess) -> None:
        if number == signal.SIGHUP:
            server.send(signal.SIGHUP)
            return
        self._stops.append(number)
        self._phase = Phase.STOPPING
        self._screen.end_progress()
        if len(self._stops) == 1:
            self._screen.note("Stopping: what is in flight is answered first. A second Ctrl-C stops at once.")
        server.send(signal.SIGTERM)

    def _status(self, ended: Ended) -> int:
        if self._stops:
            is_clean = self._has_served and ended.status == 0
            return 0 if is_clean else 128 + self._stops[-1]
        if self._failed and not self._loaded:
            return ModelLoadError.exit_code
        return ended.status

    # -- What waits, in threads --

    def _in_background(self, function: Any, *arguments: Any) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _wait_until_ready(self, port: int) -> None:
        while not management.is_ready(self._asked.host, port):
            time.sleep(_POLL_SECONDS)
        self._events.put(_Ready())

    def _load_all(self, port: int, layout: Layout) -> None:
        for model in self._models.models:
            self._events.put(management.load(self._asked.host, port, model.name, layout.directories[model.name], 3600))


class _Signals:
    """What signals do: at first they end this process in order, later they are events."""

    def __init__(self) -> None:
        self._events: EventStream | None = None

    def put_into(self, events: EventStream) -> None:
        """From now on put them into a stream."""
        self._events = events

    def receive(self, number: int, _: FrameType | None) -> None:
        """The handler."""
        if self._events is None:
            raise KeyboardInterrupt
        self._events.put(Signalled(number))


@contextmanager
def _stoppable() -> Iterator[_Signals]:
    signals = _Signals()
    before = {number: signal.signal(number, signals.receive) for number in (*_STOP_SIGNALS, signal.SIGHUP)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
