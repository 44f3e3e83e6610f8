# SPDX-License-Identifier: Apache-2.0
"""A server from its start to its end, as ``serve`` shows it and as a person's Ctrl-C wants it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import quote

from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.cli.serve_screen import Served, ServeScreen
from sagemaker_inference_lite.errors import HandlerError, ModelLoadError, PortInUseError, RequirementsError
from sagemaker_inference_lite.local import environment, management
from sagemaker_inference_lite.local.environment import Asked
from sagemaker_inference_lite.local.layout import Layout, laid_out, place
from sagemaker_inference_lite.local.management import Loaded, LoadFailed
from sagemaker_inference_lite.local.model_paths import Kind, LocalModel, ModelPathError, Models
from sagemaker_inference_lite.local.running import Running, noted
from sagemaker_inference_lite.local.server_events import StartFailed
from sagemaker_inference_lite.local.server_process import Ended, EventStream, Output, ServerProcess, Signalled
from sagemaker_inference_lite.local.watcher import Watched, Watcher
from sagemaker_inference_lite.mms.properties import SINGLE_MODEL_NAME
from sagemaker_inference_lite.supervision.observer import ModelLoaded, Ready, Reloaded, ReloadFailed

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How long a line of the server's may be on its way.
_LINES_SECONDS = 0.15

# What a change of a model, of its requirements or of the handler may mend.
_MENDABLE = (HandlerError.exit_code, ModelLoadError.exit_code, RequirementsError.exit_code)

# Another process may take the port that was free a moment ago.
_MOST_STARTS = 3


class Phase(Enum):
    """How far a server is."""

    STARTING = "starting"
    SERVING = "serving"


class _Loading(NamedTuple):
    """A model is about to be loaded."""

    name: str


class _Changed(NamedTuple):
    """Files of what is served have changed."""

    paths: tuple[Path, ...]


class _Served(NamedTuple):
    """All that can be loaded is."""


class Serving:
    """Serves models until it is asked to stop.

    Args:
        environ: This process's environment.
        asked: What the options say.
        models: What to serve.
        screen: Where it shows what happens.
        watchfiles: The library of that name; None where nothing is watched.
    """

    def __init__(
        self, environ: Mapping[str, str], asked: Asked, models: Models, screen: ServeScreen, watchfiles: Any
    ) -> None:
        self._watchfiles = watchfiles
        self._environ = environ
        self._asked = asked
        self._models = models
        self._screen = screen
        self._events = EventStream()
        self._signals = _Signals()

    def run(self) -> int:
        """Serve; the exit status.

        Raises:
            LaunchError: It cannot start. The message says why.
        """
        asked = self._asked
        if asked.port is not None and not environment.is_free(asked.host, asked.port):
            raise PortInUseError(
                f"Port {asked.port} is in use. End the process that listens on it, or name another with --port."
            )
        try:
            with self._signals.received(), laid_out(self._models) as layout:
                self._signals.put_into(self._events)
                self._screen.show_instead(layout.shown)
                with self._watched():
                    return self._run_in(layout)
        except KeyboardInterrupt:
            return 128 + self._signals.last
        finally:
            self._screen.close()

    def _run_in(self, layout: Layout) -> int:
        run, status = self._run_once(layout)
        while self._watchfiles is not None and status in _MENDABLE and self._is_mended(run):
            for model in self._models.models:
                if model.kind is Kind.ARCHIVE:
                    place(model, layout.directories[model.name])
            run, status = self._run_once(layout)
        return status

    def _is_mended(self, run: _Run) -> bool:
        """Wait for a change of what could not be served; False where a signal came first."""
        if run.early_change is not None:
            return True
        self._screen.note("Waiting for a change.")
        while True:
            event = self._events.get()
            if isinstance(event, (Signalled, _Changed)):
                return isinstance(event, _Changed)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Put changes of what is served into the stream, from before it is loaded."""
        if self._watchfiles is None:
            yield
            return
        handler = Path((self._asked.handler or self._environ.get("SAGEMAKER_HANDLER", "")).rpartition(":")[0])
        models = self._models.models
        watched = Watched(
            trees=tuple(model.path for model in models if model.kind is Kind.DIRECTORY),
            files=tuple(model.path for model in models if model.kind is not Kind.DIRECTORY),
            modules=(handler,) if handler.is_file() else (),
        )
        watcher = Watcher(self._watchfiles, watched, lambda paths: self._events.put(_Changed(tuple(paths))))
        watcher.start()
        try:
            yield
        finally:
            watcher.stop()

    def _run_once(self, layout: Layout) -> tuple[_Run, int]:
        asked = self._asked
        for _ in range(_MOST_STARTS):
            port = asked.port or environment.free_port(asked.host)
            if asked.port is None and port != environment.DEFAULT_PORT:
                self._screen.note(f"Port {environment.DEFAULT_PORT} is in use; this server takes {port}.")
            run = _Run(self._environ, asked, self._models, self._screen, self._events, layout, port)
            status = run.until_its_end()
            if asked.port is not None or not run.lost_its_port:
                break
        run.show_failure()
        return run, status


class _Run:
    """One run of the server's process.

    Attributes:
        early_change: What has changed before it served anything; None where nothing has.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        asked: Asked,
        models: Models,
        screen: ServeScreen,
        events: EventStream,
        layout: Layout,
        port: int,
    ) -> None:
        self._changed: tuple[Path, ...] = ()
        self.early_change: _Changed | None = None
        self._environ = environ
        self._asked = asked
        self._models = models
        self._screen = screen
        self._events = events
        self._layout = layout
        self._port = port
        self._host = environment.reached_at(asked.host)
        self._phase = Phase.STARTING
        self._failure: StartFailed | None = None
        self._stops: list[int] = []
        self._loaded: list[str] = []
        self._not_loaded: list[str] = []
        self._known: dict[str, ModelLoaded] = {}
        self._note = ExitStack()

    def until_its_end(self) -> int:
        """Serve; the exit status."""
        several = self._models.several
        environ = environment.server_environment(self._environ, self._asked, self._layout.base_dir, self._port, several)
        with (
            self._note,
            ServerProcess(
                environ, self._layout.base_dir, self._layout.lock, self._events, reloads_handler=self._asked.reloads
            ) as server,
        ):
            self._screen.progress("starting" if several else f"loading {self._models.models[0].name}")
            while True:
                event = self._events.get()
                if isinstance(event, Ended):
                    return self._status(event)
                self._take(event, server)

    @property
    def lost_its_port(self) -> bool:
        """Whether it has ended because another process took the port."""
        failure = self._failure
        return (
            failure is not None
            and self._phase is Phase.STARTING
            and not environment.is_free(self._asked.host, self._port)
        )

    def show_failure(self) -> None:
        """Say why it has ended, where nobody asked it to."""
        self._screen.end_progress()
        if self._failure is not None and not self._stops:
            terminal.error(self._screen.as_shown(self._failure.message))
        elif self._not_loaded and not self._loaded and not self._stops:
            terminal.error("No model could be loaded; each one's reason stands above.")

    def _take(self, event: Any, server: ServerProcess) -> None:
        if isinstance(event, Output):
            self._screen.server_line(event.line)
        elif isinstance(event, Signalled):
            self._signalled(event.number, server)
        elif isinstance(event, ModelLoaded):
            self._known[event.model] = event
        elif isinstance(event, StartFailed):
            self._failure = event
        elif isinstance(event, Ready):
            if self._models.several:
                _in_background(self._load_all, self._models.models)
            else:
                self._soon(_Served())
        elif isinstance(event, _Loading):
            self._screen.progress(f"loading {event.name}")
        elif isinstance(event, _Served):
            self._show_served()
        elif isinstance(event, (Loaded, LoadFailed)):
            self._take_load(event, server)
        elif isinstance(event, _Changed):
            self._reload(event, server)
        elif isinstance(event, Reloaded):
            what = ", ".join(dict.fromkeys(path.name for path in self._changed)) or "SIGHUP"
            self._screen.note(f"{self._own_name(event.model)}: reloaded in {event.seconds:.2f} s ({what})", "green")
        elif isinstance(event, ReloadFailed):
            message = self._screen.as_shown(event.message)
            self._screen.note(f"{self._own_name(event.model)}: not reloaded, what was served goes on. {message}", "red")

    def _own_name(self, model: str) -> str:
        """The name that the person knows a model by."""
        return model if self._models.several else self._models.models[0].name

    def _reload(self, event: _Changed, server: ServerProcess) -> None:
        """Have what has changed loaded anew; what could not be loaded before, tried again."""
        if self._stops:
            return
        if self._phase is Phase.STARTING:
            self.early_change = event
            return
        self._changed = event.paths
        for model in self._models.models:
            if model.kind is Kind.ARCHIVE and model.path in event.paths:
                try:
                    place(model, self._layout.directories[model.name])
                except ModelPathError as error:
                    self._screen.note(f"{model.name}: not reloaded, what was served goes on. {error}", "red")
                    return
        again = [model for model in self._models.models if model.name in self._not_loaded and _is_of(model, event)]
        if again:
            self._not_loaded = [name for name in self._not_loaded if name not in {model.name for model in again}]
            _in_background(self._load_all, again)
        if self._loaded or not self._models.several:
            server.send(signal.SIGHUP)

    def _take_load(self, event: Loaded | LoadFailed, server: ServerProcess) -> None:
        if isinstance(event, Loaded):
            self._loaded.append(event.name)
            self._screen.note(f"{event.name}: loaded in {event.seconds:.2f} s", "green")
        else:
            self._not_loaded.append(event.name)
            self._screen.note(f"{event.name}: not loaded. {self._screen.as_shown(event.message)}", "red")
        is_start = self._phase is Phase.STARTING
        if len(self._loaded) + len(self._not_loaded) < len(self._models.models) or self._stops or not is_start:
            return
        if self._loaded:
            self._soon(_Served())
        else:
            server.send(signal.SIGTERM)

    def _show_served(self) -> None:
        if self._stops:
            return
        self._phase = Phase.SERVING
        address = f"http://{self._host}:{self._port}"
        served = [self._served(model, address) for model in self._models.models if model.name not in self._not_loaded]
        names = tuple(model.name for model in served)
        running = Running(address, os.getpid(), self._models.several, names, time.time())
        self._note.enter_context(noted(self._environ, running))
        self._screen.banner(served, address)
        if self.early_change is not None:
            self._events.put(self.early_change)
            self.early_change = None

    def _served(self, model: LocalModel, address: str) -> Served:
        if self._models.several:
            url, known_as = f"{address}/models/{quote(model.name, safe='')}/invoke", model.name
        else:
            url, known_as = f"{address}/invocations", SINGLE_MODEL_NAME
        return Served(model.name, model.path, url, self._known.get(known_as, ModelLoaded(model.name, 0.0)))

    def _signalled(self, number: int, server: ServerProcess) -> None:
        if number == signal.SIGHUP and not self._screen.is_hung_up():
            self._changed = ()
            server.send(signal.SIGHUP)
            return
        self._stops.append(number)
        self._screen.end_progress()
        if len(self._stops) == 1:
            self._screen.note("Stopping: what is in flight is answered first. A second Ctrl-C stops at once.")
        server.send(signal.SIGTERM)

    def _status(self, ended: Ended) -> int:
        if self._stops:
            is_clean = self._phase is Phase.SERVING and ended.status == 0
            return 0 if is_clean else 128 + self._stops[-1]
        if self._not_loaded and not self._loaded:
            return ModelLoadError.exit_code
        if self._failure is None and ended.status:
            self._failure = StartFailed(ended.status, f"The server {ended.how}.")
        return ended.status

    # -- What waits, in threads --

    def _soon(self, event: Any) -> None:
        """Put an event into the stream once the lines are there that the server has printed before."""
        timer = threading.Timer(_LINES_SECONDS, self._events.put, [event])
        timer.daemon = True
        timer.start()

    def _load_all(self, models: Sequence[LocalModel]) -> None:
        for model in models:
            self._events.put(_Loading(model.name))
            directory = self._layout.directories[model.name]
            self._events.put(management.load(self._host, self._port, model.name, directory))


def _is_of(model: LocalModel, event: _Changed) -> bool:
    return any(path == model.path or model.path in path.parents for path in event.paths)


def _in_background(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


class _Signals:
    """What signals do: at first they end this process in order, later they are events.

    Attributes:
        last: The signal that came last.
    """

    def __init__(self) -> None:
        self.last = int(signal.SIGINT)
        self._events: EventStream | None = None

    @contextmanager
    def received(self) -> Iterator[None]:
        """Receive signals while this is entered."""
        before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def put_into(self, events: EventStream) -> None:
        """From now on put them into a stream."""
        self._events = events

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.last = number
        if self._events is None:
            raise KeyboardInterrupt
        self._events.put(Signalled(number))
