# SPDX-License-Identifier: Apache-2.0
"""start_model_server(): from the environment to a running server, and to its end.

environment -> Settings -> preflight -> requirements -> zygote and front end up -> loop -> drain -> everything ended
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from sagemaker_inference_lite.errors import (
    HandlerError,
    LaunchError,
    ModelLoadError,
    ProcessEndedError,
    StartTimeoutError,
)
from sagemaker_inference_lite.launch import preflight
from sagemaker_inference_lite.machine import sizing
from sagemaker_inference_lite.mms import cds_archive, command, hosts_file, java, native_library, properties
from sagemaker_inference_lite.requirements import installer, overlay
from sagemaker_inference_lite.requirements.wanted import Requirements, to_install
from sagemaker_inference_lite.runtime import logs, processes, standard_streams, uncaught
from sagemaker_inference_lite.runtime.processes import kill_group
from sagemaker_inference_lite.settings import Settings, warnings_for
from sagemaker_inference_lite.supervision import observer
from sagemaker_inference_lite.supervision.captured_output import CapturedOutput
from sagemaker_inference_lite.supervision.child import ChildProcess
from sagemaker_inference_lite.supervision.liveness import Liveness, Silence
from sagemaker_inference_lite.supervision.loop import Loop, reap_orphans
from sagemaker_inference_lite.supervision.private_directory import private_directory

logger = logging.getLogger(__name__)

DEFAULT_HANDLER_SERVICE = "sagemaker_inference_lite.default_handler_service"

# The worker side is started by name: nothing of it is imported here.
_ZYGOTE_MODULE = "sagemaker_inference_lite.zygote"

# The platform kills a container 30 s after SIGTERM. Draining takes up to 27 of them, ending the rest up to one.
_END_SECONDS = 0.9
_LAST_LINES_SECONDS = 0.2
_FRONT_END_START_SECONDS = 60.0
_INSTALLER_GRACE_SECONDS = 10.0

# The zygote says every 2 seconds that it is at work. It may have been stopped, which can be undone; where that does
# not help, models can be neither loaded nor replaced, and the platform has to start another container.
_ZYGOTE_SUSPECT_SECONDS = 6.0
_ZYGOTE_DEAD_SECONDS = 40.0

_STDOUT = 1


def start_model_server(handler_service: str | None = None) -> None:
    """Serve the model, or the models, of this container until it is asked to stop.

    Reads SAGEMAKER_* and MMS_* from the environment (see ``settings``), launches Multi Model Server and supervises it.
    SIGHUP has models loaded anew, by workers that then take over from the others: what has changed in a model's files
    and its code is served without a restart. Returns after SIGTERM or SIGINT, once every request in flight has been
    answered or SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS have passed, and within 28 seconds in any case. A second signal
    ends everything at once. Signals are handled only where this is called from the main thread.

    Meanwhile file descriptors 1 and 2 of this process are pipes that are always emptied: what is printed is passed on
    line by line, and nobody who prints waits for whoever reads it. Those that were closed lead to /dev/null afterwards.

    An error of those below that nobody catches ends the program with its sentence on stderr and its exit code, without
    a traceback.

    Args:
        handler_service: ``/path/file.py:function``, ``package.module:function``, or a module with a function
            ``handle`` or one class with ``initialize`` and ``handle``. A relative path is taken from the working
            directory. Without one, SAGEMAKER_HANDLER, or else ``default_handler_service``.

    Raises:
        SettingsError: variables hold values that cannot be used; all are named.
        PreflightError: Java, multi-model-server, the port or the model directory is not there to be used.
        RequirementsError: single-model mode: what the model's code/requirements.txt asks for cannot be installed.
        HandlerError: the handler cannot be found or imported.
        ModelLoadError: single-model mode: the model cannot be loaded.
        ProcessEndedError: a process ended that the server cannot do without, or a second signal came.
        StartTimeoutError: a process did not become ready in time.
    """
    serve(handler_service, observer.ignore)


def serve(handler_service: str | None, observe: observer.Observer, reloads_handler: bool = False) -> None:
    """The same, for a program that shows people what happens: it is told what that is.

    Args:
        handler_service: As for start_model_server().
        observe: Called in this thread with each event; it must not wait for anything.
        reloads_handler: Have each worker import the handler service by itself, so that a reload (SIGHUP) takes it in
            as it is then.
    """
    uncaught.end_in_one_sentence()
    environ = dict(os.environ)
    standard_streams.occupy()
    _configure_logging(logging.INFO)
    # Before anything can fail, which may be because of one of them.
    for warning in (*warnings_for(environ), *properties.warnings_for(environ)):
        logger.warning("%s", warning)
    settings = properties.read_settings(environ)
    logging.getLogger("sagemaker_inference_lite").setLevel(settings.container_log_level)
    with Loop() as loop, private_directory("sil-") as directory:
        server = _Server(settings, environ, loop, directory, observe, reloads_handler)
        _serve(server, handler_service or settings.handler)


def _serve(new_server: _Server, handler_service: str | None) -> None:
    with new_server as server:
        server.prepare(handler_service or DEFAULT_HANDLER_SERVICE)
        if server.install_requirements() and server.start():
            server.run_until_asked_to_stop()
            server.drain()


class _Server:
    """The processes of one server. Leaving it ends them all, in whatever state they are."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        loop: Loop,
        directory: Path,
        observe: observer.Observer,
        reloads_handler: bool,
    ) -> None:
        self._observe = observe
        self._reloads_handler = reloads_handler
        self._settings = settings
        self._environ = environ
        self._loop = loop
        self._directory = directory
        self._packages = directory / "packages"
        self._requirements: Requirements | None = None
        self._installer: ChildProcess | None = None
        self._zygote: ChildProcess | None = None
        self._front_end: ChildProcess | None = None
        self._channel: socket.socket | None = None
        self._zygote_ready = False
        self._zygote_liveness = Liveness(_ZYGOTE_SUSPECT_SECONDS, _ZYGOTE_DEAD_SECONDS)
        self._importing = "the handler"
        self._zygote_failure: LaunchError | None = None
        self._worker_groups: set[int] = set()
        self._is_listening = self._has_model = self._is_ready = False
        self._output = CapturedOutput()

    def __enter__(self) -> _Server:
        self._output.start()
        processes.adopt_orphans()  # what models leave behind, should the zygote die before it
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    # -- start --

    def prepare(self, handler_service: str) -> None:
        """Everything that can be found wrong without starting anything."""
        settings = self._settings
        self._java = java.find_java(self._environ)
        self._server_jar = command.find_model_server_jar()
        if not settings.multi_model:
            preflight.check_model_directory(settings.model_dir)
            self._requirements = to_install(settings.model_dir, settings)
        self._handler = _absolute(handler_service)
        size = sizing.sizing(settings, self._environ)
        written = properties.server_properties(
            settings, self._handler, size.workers.value, size.event_loops.value, self._directory
        )
        (self._directory / "mms.properties").write_text(properties.render(written), encoding="latin-1")
        (self._directory / command.HOSTS_FILE).write_text(hosts_file.text())
        in_force = self._in_force = properties.overridden(written, self._environ)
        self._address = properties.parse_address(in_force["inference_address"])
        self._size = properties.sizes_in_force(size, in_force, self._environ)
        preflight.check_address(self._address)
        self._library = native_library.find(self._server_jar)
        if self._library is None:
            native_library.check_directory(self._directory)
        self._most_workers = sizing.most_workers(preflight.raise_open_file_limit())

    def install_requirements(self) -> bool:
        """Single-model mode: install what the model asks for, before anything of the handler is imported.

        Returns:
            False where a signal came first.
        """
        if self._requirements is None:
            return True
        limit = self._settings.startup_timeout
        logger.info("installing %s, for %d seconds at the most", self._requirements.path, limit)
        begun = time.monotonic()
        reader, writer = os.pipe()
        with open(reader, "rb") as reasons:
            with open(writer, "wb"):
                argv = installer.command(self._requirements, self._packages, writer, limit, orphaned=self._directory)
                name = "The installation of requirements"
                self._installer = ChildProcess(name, argv, self._environ, pass_fds=[writer], commands=True)
            # It keeps to its limit by itself, and says then what it was at.
            if not self._wait(self._installer_ended, limit + _INSTALLER_GRACE_SECONDS, lambda: "install packages"):
                return False
            failed = installer.failure(self._requirements, self._installer.poll() or 0, reasons.read())
        if failed is not None:
            raise failed
        self._installer.end()  # what pip has started and left behind
        self._installer = None
        logger.info("installed %s in %.1f s", self._requirements.path, time.monotonic() - begun)
        return True

    def _installer_ended(self) -> bool:
        return self._installer is not None and self._installer.poll() is not None

    def start(self) -> bool:
        """Start the zygote and Java side by side. Once the handler is imported, Java loads the model and listens.

        Returns:
            False where a signal came first.
        """
        self._zygote = self._launch_zygote()
        self._front_end = self._launch_front_end()
        limit = self._settings.startup_timeout
        if not self._wait(lambda: self._zygote_ready, limit, lambda: f"import {self._importing}"):
            return False
        self._front_end.command("start")
        listening = self._wait(
            (self._directory / command.LISTENING_FILE).exists, _FRONT_END_START_SECONDS, lambda: "listen"
        )
        if listening:
            self._is_listening = True
            self._observe(observer.Listening(self._url))
            self._note_ready()
        return listening

    def _note_ready(self) -> None:
        """Say once that the server can be asked: it listens and, where there is one model only, that is loaded."""
        if self._is_listening and (self._settings.multi_model or self._has_model) and not self._is_ready:
            self._is_ready = True
            logger.info("ready on %s", self._url)
            self._observe(observer.Ready(self._url))

    @property
    def _url(self) -> str:
        """Where it answers; "localhost" stands for every address of this machine."""
        if isinstance(self._address, Path):
            return f"unix:{self._address}"
        host, port = self._address
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    def _launch_zygote(self) -> ChildProcess:
        """Start the process that imports the handler and forks the workers."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", _ZYGOTE_MODULE]
        argv += [f"--supervisor-fd={theirs.fileno()}", f"--directory={self._directory}", f"--handler={self._handler}"]
        for name in ("max_request_size", "max_response_size"):
            argv += [f"--{name.replace('_', '-')}={self._in_force[name]}"]
        argv += [] if self._observe is observer.ignore else ["--describe"]
        argv += [f"--not-imported={self._handler}"] if self._reloads_handler else []
        argv += ["--decode-input"] if self._in_force["decode_input_request"].lower() == "true" else []
        argv += [] if self._requirements is None else [f"--packages={self._packages}"]
        # Where a relative handler may be.
        argv += [f"--look-in={Path.cwd()}"]
        argv += [] if self._settings.multi_model else [f"--look-in={self._settings.model_dir}"]
        self._loop.watch(self._channel, self._on_zygote_event)
        with theirs:
            return ChildProcess("The zygote", argv, self._worker_environ(), pass_fds=[theirs.fileno()])

    def _launch_front_end(self) -> ChildProcess:
        """Start Multi Model Server, which waits for the word before it does anything that others can see."""
        archive = cds_archive.find(self._java, command.class_path(self._server_jar))
        argv = command.command(
            self._java,
            self._server_jar,
            self._directory / "mms.properties",
            self._settings,
            self._size,
            archive,
            self._library,
            self._most_workers,
        )
        logger.info(
            "starting on port %d: %s, handler %s, Java %d (%s)%s",
            self._settings.bind_to_port,
            "several models" if self._settings.multi_model else f"the model in {self._settings.model_dir}",
            "the default" if self._handler == DEFAULT_HANDLER_SERVICE else self._handler,
            self._java.version,
            self._java.source,
            ", its classes archived" if archive else "",
        )
        logger.info("%s", self._size)
        return ChildProcess(
            "The front end (Java)", argv, properties.environment_of_front_end(self._environ), commands=True
        )

    def _worker_environ(self) -> dict[str, str]:
        """What handlers see. Numeric libraries read their number of threads once, when they are imported."""
        environ = properties.environment_of_workers(self._environ, self._settings)
        environ = properties.without_blacklisted(environ, self._in_force)
        return {
            "OMP_NUM_THREADS": str(self._size.threads.value),
            # torch.cuda.is_available() would initialise CUDA in the zygote, which none of its forks could use then.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            **environ,
        }

    def _wait(self, ready: Callable[[], bool], limit_seconds: float, what: Callable[[], str]) -> bool:
        """Wait for a process: has one ended? are we to stop? is it ready? is it late?"""
        deadline = time.monotonic() + limit_seconds
        while True:
            self._check_processes()
            if self._loop.stop_requests:
                logger.info("asked to stop before the start was complete")
                return False
            if ready():
                return True
            if time.monotonic() > deadline:
                raise StartTimeoutError(f"The server did not {what()} within {limit_seconds:.0f} seconds.")
            self._loop.turn(0.01)

    # -- run --

    def run_until_asked_to_stop(self) -> None:
        """Return at the first signal; raise if anything ends that the server cannot do without."""
        while not self._loop.stop_requests:
            self._loop.turn()
            self._check_processes()
            self._reload_if_asked_to()
            self._check_zygote_responds()

    def _reload_if_asked_to(self) -> None:
        if not self._loop.reload_requests:
            return
        self._loop.reload_requests.clear()
        if self._is_ready:
            assert self._front_end is not None
            logger.info("reloading (SIGHUP): new workers load the models, and take over from the others")
            self._front_end.command("reload")
        else:
            logger.warning("SIGHUP is ignored: there is nothing to reload before the model is loaded")

    def _check_zygote_responds(self) -> None:
        assert self._zygote is not None
        silence = self._zygote_liveness.look()
        if silence is Silence.SUSPECT:
            logger.warning(
                "the zygote (pid %d) has said nothing for %d seconds: it is continued (SIGCONT), should it be stopped",
                self._zygote.pid,
                _ZYGOTE_SUSPECT_SECONDS,
            )
            os.kill(self._zygote.pid, signal.SIGCONT)
        elif silence is Silence.DEAD:
            raise ProcessEndedError(f"The zygote has not responded for {_ZYGOTE_DEAD_SECONDS:.0f} seconds.", 1)

    def _check_processes(self) -> None:
        children = [child for child in (self._front_end, self._zygote) if child is not None]
        reap_orphans([child.pid for child in (*children, self._installer) if child is not None])
        for child in children:
            if child.poll() is not None:
                self._read_last_words()
                raise self._zygote_failure or self._ended(child)
        if self._zygote_failure is not None:
            raise self._zygote_failure

    def _ended(self, child: ChildProcess) -> ProcessEndedError:
        """An error that says how a process ended. Its own status would be taken for one of this library's."""
        sentence = child.describe_end()
        if child is self._front_end and child.poll() == command.OUT_OF_MEMORY_STATUS:
            sentence += ": its heap is used up; SAGEMAKER_MODEL_SERVER_VMARGS='-Xmx...' makes it larger"
        return ProcessEndedError(f"{sentence}.", child.exit_code if child.exit_code > 128 else 1)

    def _on_zygote_event(self) -> None:
        """Take in one message of the zygote's: an event, and the ends of pipes that a new worker prints to."""
        assert self._channel is not None
        message, descriptors, _, _ = socket.recv_fds(self._channel, 65536, 2)
        if not message:
            self._loop.forget(self._channel)
            return
        self._zygote_liveness.heard()
        event = json.loads(message)
        if event["event"] == "ready":
            self._zygote_ready = True
        elif event["event"] == "importing":
            self._importing = event["what"]
        elif event["event"] == "handler failed":
            self._zygote_failure = HandlerError(event["message"])
        elif event["event"] == "model loaded":
            seconds = event["milliseconds"] / 1000
            self._observe(observer.ModelLoaded(event["model"], seconds, *event["description"]))
            self._has_model = True
            self._note_ready()
        elif event["event"] == "model reloaded":
            self._observe(observer.Reloaded(event["model"], event["seconds"]))
        elif event["event"] == "reload failed":
            self._observe(observer.ReloadFailed(event["model"], event["message"]))
        elif event["event"] == "load failed":
            self._observe(observer.ModelFailed(event["model"], event["message"]))
        elif event["event"] == "model failed":
            self._zygote_failure = ModelLoadError(event["message"])
        elif event["event"] == "worker ended":
            self._worker_groups.discard(event["pid"])
        elif event["event"] == "worker":
            self._worker_groups.add(event["pid"])
            for source, destination in zip(descriptors, (1, 2)):
                self._output.add(source, f"[{event['model']}] ", destination)

    def _read_last_words(self) -> None:
        if self._channel is not None:
            self._channel.setblocking(False)
            with contextlib.suppress(OSError, ValueError):
                while self._zygote_failure is None and self._channel.recv(1, socket.MSG_PEEK):
                    self._on_zygote_event()

    # -- stop --

    def drain(self) -> None:
        """Let the front end answer what it owes; it ends by itself when it has."""
        assert self._front_end is not None
        number = self._loop.stop_requests.popleft()
        limit = self._settings.model_server_drain_seconds
        self._front_end.command("drain")
        logger.info("stopping (signal %d): requests in flight have %d seconds", number, limit)
        deadline = time.monotonic() + limit
        while self._front_end.poll() is None:
            if self._loop.stop_requests:
                number = self._loop.stop_requests.popleft()
                raise ProcessEndedError(f"Stopped at once by a second signal ({number}).", 128 + number)
            if time.monotonic() >= deadline:
                logger.warning("requests are still in flight after %d seconds; they are dropped", limit)
                return
            if self._zygote is not None and self._zygote.poll() is not None:
                raise self._ended(self._zygote)  # nobody is left to answer what is in flight
            self._loop.turn(min(0.05, max(0.0, deadline - time.monotonic())))
        if self._front_end.poll() != 0:
            raise self._ended(self._front_end)
        logger.info("stopped: nothing is in flight")

    def _end(self) -> None:
        if self._installer is not None:
            self._installer.end()
            overlay.remove(self._packages)
        if self._front_end is not None:
            self._front_end.end()
        if self._channel is not None:
            self._loop.forget(self._channel)
            self._channel.close()
        deadline = time.monotonic() + _END_SECONDS
        if self._zygote is not None:
            while self._zygote.poll() is None and time.monotonic() < deadline - _LAST_LINES_SECONDS:
                self._loop.turn(0.02)
            self._zygote.end()
            # What workers started and left behind, where the zygote was killed before it could end them.
            for group in self._worker_groups:
                kill_group(group)
            processes.end_orphans()
        self._output.close(max(deadline, time.monotonic() + _LAST_LINES_SECONDS))
        reap_orphans([])
        processes.adopt_orphans(False)


def _configure_logging(level: int) -> None:
    """Log to stdout, where the platform looks, unless whoever calls has set up logging already."""
    package = logging.getLogger("sagemaker_inference_lite")
    package.setLevel(level)
    if not package.hasHandlers():
        package.addHandler(logs.LineHandler(_STDOUT))


def _absolute(handler_service: str) -> str:
    """The handler with the path of its file absolute: the processes that import it work in other directories."""
    place, colon, name = handler_service.rpartition(":")
    if not colon:
        place, name = handler_service, ""
    return f"{Path(place).resolve()}{colon}{name}" if Path(place).is_file() else handler_service
