# SPDX-License-Identifier: Apache-2.0
"""The zygote as the supervisor sees it: started, listened to, continued should it be stopped, and ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from sagemaker_inference_lite.errors import HandlerError, LaunchError, ModelLoadError, ProcessEndedError
from sagemaker_inference_lite.launch.plan import LaunchPlan
from sagemaker_inference_lite.runtime import processes
from sagemaker_inference_lite.supervision import observer
from sagemaker_inference_lite.supervision.captured_output import CapturedOutput
from sagemaker_inference_lite.supervision.child import ChildProcess
from sagemaker_inference_lite.supervision.liveness import Liveness, Silence
from sagemaker_inference_lite.supervision.loop import Loop

logger = logging.getLogger("sagemaker_inference_lite.model_server")

# The zygote says every 2 seconds that it is at work. It may have been stopped, which can be undone; where that does
# not help, models can be neither loaded nor replaced, and the platform has to start another container.
_SUSPECT_SECONDS = 6.0
_DEAD_SECONDS = 40.0

_LONGEST_EVENT = 65536


class ZygoteProcess:
    """The process, and what it has told.

    Args:
        plan: What it is started for.
        loop: The supervisor's.
        output: Takes what workers print.
        observe: Told what happens to models.
        describes: Whether what models are is told, too.
        reloads_handler: Have each worker import the handler service by itself.

    Attributes:
        child: The process.
        is_ready: It has imported the handler.
        importing: What it was about to import last, in words.
        failure: Why it ends, or is to be ended, as it has told; None unless it has.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        loop: Loop,
        output: CapturedOutput,
        observe: observer.Observer,
        describes: bool,
        reloads_handler: bool,
    ) -> None:
        self.is_ready = False
        self.importing = "the handler"
        self.failure: LaunchError | None = None
        self._loop = loop
        self._output = output
        self._observe = observe
        self._worker_groups: set[int] = set()
        self._liveness = Liveness(_SUSPECT_SECONDS, _DEAD_SECONDS)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                argv = plan.zygote_command(theirs.fileno(), describes, reloads_handler)
                self.child = ChildProcess("The zygote", argv, plan.worker_environ(), pass_fds=[theirs.fileno()])
        except BaseException:
            self._channel.close()
            raise
        loop.watch(self._channel, self._read_event)

    def check_responds(self) -> None:
        """Continue it where it has been silent, in case that it was stopped.

        Raises:
            ProcessEndedError: It has been silent for too long.
        """
        silence = self._liveness.look()
        if silence is Silence.SUSPECT:
            logger.warning(
                "the zygote (pid %d) has said nothing for %d seconds: it is continued (SIGCONT), should it be stopped",
                self.child.pid,
                _SUSPECT_SECONDS,
            )
            os.kill(self.child.pid, signal.SIGCONT)
        elif silence is Silence.DEAD:
            raise ProcessEndedError(f"The zygote has not responded for {_DEAD_SECONDS:.0f} seconds.", 1)

    def read_last_events(self) -> None:
        """After an end: what it had told before."""
        self._channel.setblocking(False)
        with contextlib.suppress(OSError, ValueError):
            while self.failure is None and self._channel.recv(1, socket.MSG_PEEK):
                self._read_event()

    def _read_event(self) -> None:
        """One message: an event, and the ends of pipes that a new worker prints to."""
        message, descriptors, _, _ = socket.recv_fds(self._channel, _LONGEST_EVENT, 2)
        if not message:
            self._loop.forget(self._channel)
            return
        self._liveness.heard()
        self._on_event(json.loads(message), descriptors)

    def _on_event(self, event: dict[str, Any], descriptors: Sequence[int]) -> None:
        if event["event"] == "ready":
            self.is_ready = True
        elif event["event"] == "importing":
            self.importing = event["what"]
        elif event["event"] == "handler failed":
            self.failure = HandlerError(event["message"])
        elif event["event"] == "model loaded":
            seconds = event["milliseconds"] / 1000
            self._observe(observer.ModelLoaded(event["model"], seconds, *event["description"]))
        elif event["event"] == "model reloaded":
            self._observe(observer.Reloaded(event["model"], event["seconds"]))
        elif event["event"] == "reload failed":
            self._observe(observer.ReloadFailed(event["model"], event["message"]))
        elif event["event"] == "load failed":
            self._observe(observer.ModelFailed(event["model"], event["message"]))
        elif event["event"] == "model failed":
            self.failure = ModelLoadError(event["message"])
        elif event["event"] == "worker ended":
            self._worker_groups.discard(event["pid"])
        elif event["event"] == "worker":
            self._worker_groups.add(event["pid"])
            for source, destination in zip(descriptors, (1, 2)):
                self._output.add(source, f"[{event['model']}] ", destination)

    def end(self, deadline: float) -> None:
        """End it and all workers: its socket's end has it end them, which it may take until the deadline for.

        Args:
            deadline: On time.monotonic()'s clock.
        """
        self._loop.forget(self._channel)
        self._channel.close()
        while self.child.poll() is None and time.monotonic() < deadline:
            self._loop.turn(0.02)
        self.child.end()
        # What workers started and left behind, where the zygote was killed before it could end them.
        for group in self._worker_groups:
            processes.kill_group(group)
        processes.end_orphans()
