# SPDX-License-Identifier: Apache-2.0
"""SAGEMAKER_MODEL_SERVER_SHARE_MODEL: one process loads the one model, and forks the workers.

What a model holds is then in memory once, as far as nobody writes to it. It is the handler's part to be fit for that,
so it is asked for by a setting; where the template sees that a model is not, the workers load it each for itself.

    ABSENT --a worker is to be forked--> LOADING --loaded--> READY
       ^                                    |                  |
       |                                    | fails, is unfit, | it ends, or does not
       |                                    | takes too long   | answer, too often
       |                                    v                  v
       |                                 GIVEN_UP <------------+
       +-------- it ends, or does not answer, not too often ---+
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any, Callable

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.runtime import fork_guard, fork_safety, logs, standard_streams
from sagemaker_inference_lite.runtime.printable import named
from sagemaker_inference_lite.runtime.processes import kill_group
from sagemaker_inference_lite.worker import spec, worker
from sagemaker_inference_lite.worker.after_fork import become_worker
from sagemaker_inference_lite.worker.spec import WorkerDefaults
from sagemaker_inference_lite.zygote.before_fork import prepare_to_fork
from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.template import LONGEST_MESSAGE, Template, serve_orders

logger = logging.getLogger("sagemaker_inference_lite.zygote")

# A model template that is killed, most likely for memory, would be again.
_MAX_DEATHS = 3

# Forks the model template: called with its end of the control socket, and what it is to load; its pid.
ForkModelTemplate = Callable[[socket.socket, wire.Load], int]


def become_model_template(
    control: socket.socket, load: wire.Load, outputs: tuple[int, int], defaults: WorkerDefaults, zygote: int
) -> None:
    """A model template's whole life: load the model, say what came of it, and fork workers by order. Never returns.

    Args:
        control: Where it says so, and takes orders.
        load: What it loads.
        outputs: What becomes its stdout and stderr.
        zygote: The pid of the zygote, which has forked it.
    """
    try:
        score = become_worker(zygote, *outputs)
        for descriptor in outputs:
            os.close(descriptor)
        logs.belong_to_model(load.model_name)
        begun = time.monotonic()
        before = fork_safety.held()
        fork_guard.claim([control])
        loaded = worker.load_model(load, defaults.handler, defaults.find_entry_point, defaults.environ)
        fork_guard.end_if_forked()
        fork_guard.release()
        standard_streams.occupy()  # the model may have closed them
        if loaded.context.load_report:
            logger.info("%s", loaded.context.load_report)
        milliseconds = int(1000 * (time.monotonic() - begun))
        unsafe = fork_safety.why_unsafe(before)
        message = {"milliseconds": milliseconds, "unfit": unsafe and f"its load {unsafe}"}
        prepare_to_fork()
        score.waits()
        control.send(json.dumps(message).encode())
        if message["unfit"]:
            os._exit(0)

        def run_worker(order: dict[str, Any], files: Sequence[int]) -> None:
            spec.worker_main(spec.of_order(order, files, defaults), defaults, zygote, loaded=loaded)

        serve_orders(control, zygote, run_worker)
    except BaseException as error:  # whatever a model raises at its load, SystemExit included
        fork_guard.end_if_forked(error)
        logger.error("model %s cannot be loaded to be shared: %s", load.model_name, named(error))
    finally:
        standard_streams.flush()
        os._exit(1)


class State(Enum):
    """Where the one template is; the picture above has the transitions."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    GIVEN_UP = "given up"


class ModelTemplate:
    """Has the model loaded once, when its first worker is to be forked, and all workers forked from there.

    Args:
        loop: The zygote's.
        fork_template: Forks the model template.
        limit_seconds: The longest that the load may take.

    Attributes:
        state: Where the template is.
    """

    def __init__(self, loop: EventLoop, fork_template: ForkModelTemplate, limit_seconds: float) -> None:
        self._loop = loop
        self._fork_template = fork_template
        self._limit_seconds = limit_seconds
        self._template: Template | None = None
        self.state = State.ABSENT
        self._deaths = 0

    def is_pending(self, load: wire.Load) -> bool:
        """Whether the model is about to be there; has it loaded where it is not."""
        if self.state is State.ABSENT:
            self._begin(load)
        return self.state is State.LOADING

    def spawn(self, order: dict[str, Any], files: Sequence[int]) -> int | None:
        """Have the model template fork a worker; its pid, or None where the worker has to load the model itself."""
        if self._template is None:
            return None
        try:
            return self._template.spawn(order, files)
        except (OSError, ValueError) as error:
            self._lose(str(error))
            return None

    def holders(self) -> Sequence[int]:
        """The model template, where there is one: it has run the model's code."""
        return [self._template.pid] if self._template is not None else []

    def note_imports(self, modules: Sequence[str]) -> None:
        """Take in what a worker had to import: it was one that could not share the model."""

    def child_ended(self, pid: int) -> None:
        """Take in that a child of the zygote has ended."""
        template = self._template
        if template is None or template.pid != pid:
            return
        template.has_ended = True
        if self.state is State.LOADING:
            self._on_message()  # its end may be seen before its last message
        if self._template is template:
            is_loading = self.state is State.LOADING
            self._lose("it could not be loaded" if is_loading else "the process that holds it has ended")

    def _begin(self, load: wire.Load) -> None:
        if load.gpu_id is not None:
            self._give_up("it is to use a GPU, and CUDA cannot be used after a fork")
            return
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._give_up(str(error))
            return
        self._loop.watch(ours, self._on_message)
        try:
            with theirs:
                template = Template(self._fork_template(theirs, load), ours, ())
        except OSError as error:
            self._loop.drop(ours)
            self._give_up(str(error))
            return
        self._template = template
        self.state = State.LOADING
        self._loop.later(self._limit_seconds, functools.partial(self._check_limit, template))

    def _on_message(self) -> None:
        assert self._template is not None
        try:
            # What the model's load has started may hold the other end open.
            message = json.loads(self._template.control.recv(LONGEST_MESSAGE, socket.MSG_DONTWAIT) or b"{}")
        except OSError:
            message = {}
        self._loop.unwatch(self._template.control)
        if not message:
            return  # its end follows as SIGCHLD
        if message["unfit"]:
            self._lose(message["unfit"], for_good=True)
        else:
            logger.info("the model loaded in %d ms, for all workers to share", message["milliseconds"])
            self.state = State.READY

    def _check_limit(self, template: Template) -> None:
        if template is self._template and self.state is State.LOADING:
            self._lose(f"it takes longer than {self._limit_seconds:.0f} seconds to load", for_good=True)

    def _lose(self, reason: str, for_good: bool = False) -> None:
        template, self._template = self._template, None
        if template is not None:
            self._loop.drop(template.control)
            kill_group(template.pid)
        self._deaths += 1
        if for_good or self.state is State.LOADING or self._deaths >= _MAX_DEATHS:
            self._give_up(reason)
        else:
            self.state = State.ABSENT
            logger.warning("the model is loaded again for its workers to share: %s", reason)

    def _give_up(self, reason: str) -> None:
        self.state = State.GIVEN_UP
        logger.warning("the model is not shared, and each worker loads it by itself: %s", reason)
