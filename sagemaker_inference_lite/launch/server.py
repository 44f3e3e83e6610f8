# SPDX-License-Identifier: Apache-2.0
"""The processes of one server: started, watched, reloaded, drained and ended."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

from sagemaker_inference_lite.errors import ProcessEndedError, StartTimeoutError
from sagemaker_inference_lite.launch.installation import Installation
from sagemaker_inference_lite.launch.plan import LaunchPlan
from sagemaker_inference_lite.launch.zygote_process import ZygoteProcess
from sagemaker_inference_lite.mms import command
from sagemaker_inference_lite.supervision import observer
from sagemaker_inference_lite.supervision.captured_output import CapturedOutput
from sagemaker_inference_lite.supervision.child import ChildProcess
from sagemaker_inference_lite.supervision.loop import Loop, reap_orphans

logger = logging.getLogger("sagemaker_inference_lite.model_server")

# The platform kills a container 30 s after SIGTERM. Draining takes up to 27 of them, ending the rest up to one.
_END_SECONDS = 0.9
_LAST_LINES_SECONDS = 0.2
_FRONT_END_START_SECONDS = 60.0


class Server:
    """Leaving it ends all processes, in whatever state they are.

    Args:
        plan: What is started.
        loop: The supervisor's.
        output: Takes what workers print; it has been started.
        observe: Told what happens.
        reloads_handler: Have each worker import the handler service by itself.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        loop: Loop,
        output: CapturedOutput,
        observe: observer.Observer,
        reloads_handler: bool,
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._output = output
        self._observe = observe
        self._reloads_handler = reloads_handler
        self._installation = Installation(plan)
        self._zygote: ZygoteProcess | None = None
        self._front_end: ChildProcess | None = None
        self._is_listening = self._has_model = self._is_ready = False

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    # -- start --

    def install_requirements(self) -> bool:
        """Single-model mode: install what the model asks for, before anything of the handler is imported.

        Returns:
            False where a signal came first.
        """
        requirements = self._plan.requirements
        return requirements is None or self._installation.run(requirements, self._wait)

    def start(self) -> bool:
        """Start the zygote and Java side by side. Once the handler is imported, Java loads the model and listens.

        Returns:
            False where a signal came first.
        """
        plan = self._plan
        zygote = self._zygote = ZygoteProcess(
            plan,
            self._loop,
            self._output,
            self._on_event,
            describes=self._observe is not observer.ignore,
            reloads_handler=self._reloads_handler,
        )
        logger.info("starting on port %d: %s", plan.settings.bind_to_port, plan)
        logger.info("%s", plan.size)
        front_end = self._front_end = ChildProcess(
            "The front end (Java)", plan.front_end_command(), plan.front_end_environ(), commands=True
        )
        limit = plan.settings.startup_timeout
        if not self._wait(lambda: zygote.is_ready, limit, lambda: f"import {zygote.importing}"):
            return False
        front_end.command("start")
        listening = self._wait(
            (plan.directory / command.LISTENING_FILE).exists, _FRONT_END_START_SECONDS, lambda: "listen"
        )
        if listening:
            self._is_listening = True
            self._observe(observer.Listening(plan.url))
            self._note_ready()
        return listening

    def _on_event(self, event: observer.Event) -> None:
        self._observe(event)
        if isinstance(event, observer.ModelLoaded):
            self._has_model = True
            self._note_ready()

    def _note_ready(self) -> None:
        """Say once that the server can be asked: it listens and, where there is one model only, that is loaded."""
        if self._is_listening and (self._plan.settings.multi_model or self._has_model) and not self._is_ready:
            self._is_ready = True
            logger.info("ready on %s", self._plan.url)
            self._observe(observer.Ready(self._plan.url))

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
        assert self._zygote is not None
        while not self._loop.stop_requests:
            self._loop.turn()
            self._check_processes()
            self._reload_if_asked_to()
            self._zygote.check_responds()

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

    def _check_processes(self) -> None:
        zygote = self._zygote
        children = [self._front_end, zygote.child if zygote else None]
        running = [child for child in children if child is not None]
        reap_orphans([*(child.pid for child in running), *self._installation.pids])
        for child in running:
            if child.poll() is not None:
                if zygote is not None:
                    zygote.read_last_events()
                raise (zygote.failure if zygote else None) or self._ended(child)
        if zygote is not None and zygote.failure is not None:
            raise zygote.failure

    def _ended(self, child: ChildProcess) -> ProcessEndedError:
        """An error that says how a process ended. Its own status would be taken for one of this library's."""
        sentence = child.describe_end()
        if child is self._front_end and child.poll() == command.OUT_OF_MEMORY_STATUS:
            sentence += ": its heap is used up; SAGEMAKER_MODEL_SERVER_VMARGS='-Xmx...' makes it larger"
        return ProcessEndedError(f"{sentence}.", child.exit_code if child.exit_code > 128 else 1)

    # -- stop --

    def drain(self) -> None:
        """Let the front end answer what is in flight; it ends by itself when it has."""
        assert self._front_end is not None
        number = self._loop.stop_requests.popleft()
        limit = self._plan.settings.model_server_drain_seconds
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
            if self._zygote is not None and self._zygote.child.poll() is not None:
                raise self._ended(self._zygote.child)  # nobody is left to answer what is in flight
            self._loop.turn(min(0.05, max(0.0, deadline - time.monotonic())))
        if self._front_end.poll() != 0:
            raise self._ended(self._front_end)
        logger.info("stopped: nothing is in flight")

    def _end(self) -> None:
        self._installation.end()
        if self._front_end is not None:
            self._front_end.end()
        deadline = time.monotonic() + _END_SECONDS
        if self._zygote is not None:
            self._zygote.end(deadline - _LAST_LINES_SECONDS)
        self._output.close(max(deadline, time.monotonic() + _LAST_LINES_SECONDS))
        reap_orphans([])
