# SPDX-License-Identifier: Apache-2.0
"""A template: a fork of the zygote that has imported, or loaded, what workers share, and forks them from then on.

The zygote itself imports nothing after its start, because a package may fail, hang or crash when it is imported, and
the zygote holds the connections of all models. So a pending template is forked, imports, and takes over only when it
has succeeded. What a template forks becomes a child of the zygote (PR_SET_CHILD_SUBREAPER), which watches over workers
and replaces the template.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Callable, Protocol

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.runtime import fork_guard, standard_streams
from sagemaker_inference_lite.worker.after_fork import die_with_parent
from sagemaker_inference_lite.worker.imports import import_all
from sagemaker_inference_lite.zygote.before_fork import prepare_to_fork

logger = logging.getLogger(__name__)

# The names of a few thousand modules.
LONGEST_MESSAGE = 150_000

# A fork takes milliseconds. The zygote waits for no answer longer than this: it has other models to look after.
_REPLY_SECONDS = 2.0
_FILES_OF_A_SPEC = 4

# What a child does that the template has forked: called with the order and the files that came with it. Never returns.
RunWorker = Callable[[dict[str, Any], Sequence[int]], None]


class TemplateSource(Protocol):
    """Has templates made, and workers forked by them."""

    def is_pending(self, load: wire.Load) -> bool:
        """Whether a template is about to come that a worker for this load had better wait for."""

    def spawn(self, order: dict[str, Any], files: Sequence[int]) -> int | None:
        """Have the template fork a worker; its pid, or None where the zygote has to do it itself."""

    def holders(self) -> Sequence[int]:
        """The processes, other than workers, that run a model's code."""

    def note_imports(self, modules: Sequence[str]) -> None:
        """Note what a load had to import of the image's packages."""

    def child_ended(self, pid: int) -> None:
        """Note that a child of the zygote has ended."""


class Template:
    """A template, as the zygote sees it.

    Attributes:
        pid: The process.
        control: Where it takes orders and answers. Its end ends the template.
        modules: What it has imported, or is about to.
        has_ended: The zygote has seen its end; its pid may be another's.
    """

    def __init__(self, pid: int, control: socket.socket, modules: Sequence[str]) -> None:
        self.pid = pid
        self.control = control
        self.modules = list(modules)
        self.has_ended = False

    def spawn(self, order: dict[str, Any], files: Sequence[int]) -> int:
        """Have it fork a worker; the worker's pid.

        The worker waits for GO on its events: one whose fork the zygote takes for failed must not run.

        Raises:
            OSError: It could not, or it did not answer in time.
        """
        return int(self._ask({"do": "spawn", **order}, files)["pid"])

    def fork_template(self, pending: socket.socket, modules: Sequence[str]) -> int:
        """Have it fork a pending template that may follow it, whose control is the socket that is given; its pid.

        Raises:
            OSError: It could not, or it did not answer in time.
        """
        return int(self._ask({"do": "fork_template", "modules": list(modules)}, [pending.fileno()])["pid"])

    def kill(self) -> None:
        """End it, whatever it does."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _ask(self, order: dict[str, Any], files: Sequence[int]) -> dict[str, Any]:
        self.control.settimeout(_REPLY_SECONDS)
        try:
            socket.send_fds(self.control, [json.dumps(order).encode()], list(files))
            answer: dict[str, Any] = json.loads(self.control.recv(LONGEST_MESSAGE) or b'{"error": "it has ended"}')
        except socket.timeout:
            raise OSError(f"the import template (pid {self.pid}) has not answered for {_REPLY_SECONDS:.0f} s") from None
        if "error" in answer:
            raise OSError(f"the import template cannot fork: {answer['error']}")
        return answer


def become_import_template(control: socket.socket, modules: Sequence[str], zygote: int, run_worker: RunWorker) -> None:
    """A pending template's whole life: import, say what came of it, and serve as the import template. Never returns.

    Args:
        control: Where it says so, and takes orders.
        modules: What it imports.
        zygote: The pid of the zygote, whose child it is about to become.
        live: What a worker does that it has forked.
    """
    try:
        while _import(control, modules, zygote):
            # The next pending template unwinds to here: it must not stand on the frames of all its forebears.
            control, modules = serve_orders(control, zygote, run_worker)
    except BaseException:
        logger.exception("an import template failed")
    finally:
        os._exit(1)


def _import(control: socket.socket, modules: Sequence[str], zygote: int) -> bool:
    """Import, and say what came of it; whether this process may fork workers now."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _wait_for_adoption(zygote)
    die_with_parent(zygote)
    begun = time.monotonic()
    fork_guard.claim([control])
    outcome = import_all(modules, lambda package: _send(control, {"at": package}))
    fork_guard.release()
    standard_streams.occupy()  # a package may have closed them
    prepare_to_fork()
    for name, error in outcome.failed.items():
        logger.debug("%s is not imported ahead: %s", name, error)
    # Without the errors' texts, which would not fit into a message.
    message = {**outcome._asdict(), "failed": list(outcome.failed)}
    _send(control, {**message, "milliseconds": 1000 * (time.monotonic() - begun)})
    return not outcome.unsafe


def serve_orders(control: socket.socket, zygote: int, run_worker: RunWorker) -> tuple[socket.socket, list[str]]:
    """Fork workers by order, until the zygote closes the control.

    Returns:
        In a child only, that is to be the next pending template: its control, and what it imports.
    """
    while True:
        message, files, _, _ = socket.recv_fds(control, LONGEST_MESSAGE, _FILES_OF_A_SPEC)
        if not message:
            os._exit(0)  # the zygote has ended, or has another import template
        order = json.loads(message)
        standard_streams.flush()
        if _fork_twice(control):
            control.close()
            if order["do"] == "fork_template":
                return socket.socket(fileno=files[0]), order["modules"]
            _wait_for_adoption(zygote)
            run_worker(order, files)
        for number in files:
            os.close(number)


def _send(control: socket.socket, what: dict[str, Any]) -> None:
    control.send(json.dumps(what).encode())


def _fork_twice(answer: socket.socket) -> bool:
    """Fork a process that is nobody's child here, and send its pid, or why there is none; true in that process."""
    try:
        between = os.fork()
        if between == 0:
            return _fork_and_end(answer)
        _, status = os.waitpid(between, 0)
        if status:
            _send(answer, {"error": "the process between was killed"})
    except OSError as error:
        _send(answer, {"error": str(error)})
    return False


def _fork_and_end(answer: socket.socket) -> bool:
    """Fork, send the child's pid, and end; returns in the child only."""
    try:
        pid = os.fork()
    except OSError as error:
        _send(answer, {"error": str(error)})
        os._exit(0)
    if pid == 0:
        return True
    try:
        _send(answer, {"pid": pid})
    finally:
        os._exit(0)


def _wait_for_adoption(zygote: int) -> None:
    """Wait until the process between has ended, so that the zygote is the parent."""
    while os.getppid() != zygote:
        with suppress(ProcessLookupError):
            os.kill(zygote, 0)
            time.sleep(0.0005)
            continue
        os._exit(1)
