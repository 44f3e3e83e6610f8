# SPDX-License-Identifier: Apache-2.0
"""What the one model's code/requirements.txt asks for, installed before anything of the handler is imported."""

from __future__ import annotations

import logging
import os
import time
from typing import Callable

from sagemaker_inference_lite.launch.plan import LaunchPlan
from sagemaker_inference_lite.requirements import installer, overlay
from sagemaker_inference_lite.requirements.wanted import Requirements
from sagemaker_inference_lite.supervision.child import ChildProcess

logger = logging.getLogger("sagemaker_inference_lite.model_server")

_GRACE_SECONDS = 10.0

# Waits until a process is ready: called with what says so, a limit in seconds, and what it is to do in words. False
# where a signal came first.
Wait = Callable[[Callable[[], bool], float, Callable[[], str]], bool]


class Installation:
    """The process that installs; it is ended by end(), in whatever state it is."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._plan = plan
        self._process: ChildProcess | None = None

    @property
    def pids(self) -> list[int]:
        """Of what it has started, and not reaped."""
        return [] if self._process is None else [self._process.pid]

    def run(self, requirements: Requirements, wait: Wait) -> bool:
        """Install; False where a signal came first.

        Raises:
            RequirementsError: It cannot be installed.
        """
        limit = self._plan.settings.startup_timeout
        logger.info("installing %s, for %d seconds at the most", requirements.path, limit)
        begun = time.monotonic()
        reader, writer = os.pipe()
        with open(reader, "rb") as reasons:
            with open(writer, "wb"):
                directory = self._plan.directory
                argv = installer.command(requirements, self._plan.packages, writer, limit, orphaned=directory)
                name = "The installation of requirements"
                process = ChildProcess(name, argv, self._plan.environ, pass_fds=[writer], commands=True)
                self._process = process
            # It keeps to its limit by itself, and says then what it was at.
            if not wait(lambda: process.poll() is not None, limit + _GRACE_SECONDS, lambda: "install packages"):
                return False
            failed = installer.failure(requirements, process.poll() or 0, reasons.read())
        if failed is not None:
            raise failed
        process.end()  # what pip has started and left behind
        self._process = None
        logger.info("installed %s in %.1f s", requirements.path, time.monotonic() - begun)
        return True

    def end(self) -> None:
        """End it where it has not succeeded, and remove what it has made."""
        if self._process is not None:
            self._process.end()
            overlay.remove(self._plan.packages)
