# SPDX-License-Identifier: Apache-2.0
"""What a worker is given when it is forked, and its life from there on, whoever has forked it."""

from __future__ import annotations

import functools
import logging
import os
import socket
import zlib
from collections.abc import MutableMapping, Sequence
from typing import Any, Callable, NamedTuple

from sagemaker_inference_lite.ipc import events, wire
from sagemaker_inference_lite.ipc.connection import Connection
from sagemaker_inference_lite.ipc.worker_status import StatusPages, WorkerStatus
from sagemaker_inference_lite.requirements import of_one_model
from sagemaker_inference_lite.runtime import fork_guard
from sagemaker_inference_lite.settings import Settings
from sagemaker_inference_lite.worker import worker
from sagemaker_inference_lite.worker.after_fork import become_worker
from sagemaker_inference_lite.worker.responses import AnswerOptions

logger = logging.getLogger(__name__)

# What the zygote says to a worker that another process has forked.
GO = b"G"


class WorkerSpec(NamedTuple):
    """What a worker is given.

    Attributes:
        load: What it is to load.
        connection: Where its requests come from.
        page: What it is doing, for the zygote to see.
        events: Where it tells the zygote what it has done.
        outputs: What becomes its stdout and stderr.
        packages: Where packages of its model's own are, or are to be installed.
        refusal: None, or why it refuses one request instead.
    """

    load: wire.Load
    connection: Connection
    page: WorkerStatus
    events: socket.socket
    outputs: tuple[int, int]
    packages: str
    refusal: worker.Refusal | None = None


class WorkerDefaults(NamedTuple):
    """What all workers of a server have in common.

    Attributes:
        handler: The handler service of models that name none of their own.
        find_entry_point: Returns its entry point; imports it first, in this process, where it cannot be shared.
        image_directories: Where the modules lie that workers of other models may share.
        environ: Of each process.
        pages: Of all workers.
        max_message: What one request may have in a message, in bytes.
        describes: Whether workers tell what their model is.
    """

    settings: Settings
    handler: str
    find_entry_point: Callable[[], Any]
    image_directories: tuple[str, ...]
    environ: MutableMapping[str, str]
    options: AnswerOptions
    pages: StatusPages
    max_message: int
    describes: bool = False


def worker_main(
    spec: WorkerSpec,
    defaults: WorkerDefaults,
    parent: int,
    close_inherited: Callable[[], None] = lambda: None,
    loaded: worker.Loaded | None = None,
) -> None:
    """A worker's whole life. It must never return into the loop of who has forked it.

    Args:
        parent: The pid of the zygote.
        close_inherited: Called once the worker's own output is in place.
        loaded: The model, where whoever has forked has loaded it.
    """
    status = 1
    try:
        score = become_worker(parent, *spec.outputs)
        for descriptor in spec.outputs:
            os.close(descriptor)
        close_inherited()
        defaults.pages.keep_only(spec.page)
        spec.connection.receive_into(spec.page.buffer)
        fork_guard.claim([spec.connection.sock, spec.events, spec.page, score])

        def tell(event: events.Event) -> None:
            spec.events.sendall(events.encode(event))

        job = worker.Job(
            load=spec.load,
            connection=spec.connection,
            page=spec.page,
            score=score,
            tell=tell,
            default_handler=defaults.handler,
            find_default=defaults.find_entry_point,
            options=defaults.options,
            environ=defaults.environ,
            refusal=spec.refusal,
            provide_packages=lambda model_dir: of_one_model.provide(model_dir, spec.packages, defaults.settings),
            image_directories=defaults.image_directories,
            describes=defaults.describes,
            is_first_failure=functools.partial(_is_first_failure, spec.packages),
            loaded=loaded,
        )
        tell(worker.run(job))
        fork_guard.run_exit_functions()
        status = 0
    except BaseException as error:
        fork_guard.end_if_forked(error)
        logger.exception("the worker of model %s failed", spec.load.model_name)
    finally:
        os._exit(status)


def failure_marks(packages: str, digest: str = "*") -> str:
    """Where workers of a model leave a mark for each reason for which they could not load it: a path, or a pattern."""
    return f"{packages}.failure-{digest}"


def _is_first_failure(packages: str, sentence: str) -> bool:
    """Leave a mark for a reason; whether no other worker of the model has left it before.

    Workers of one model fail at the same time and for the same reason, and one traceback says all of it.
    """
    mark = failure_marks(packages, f"{zlib.crc32(sentence.encode(errors='backslashreplace')):08x}")
    try:
        os.makedirs(os.path.dirname(mark), exist_ok=True)
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError:  # a full disk: better twice than never
        return True
    return True


def to_order(spec: WorkerSpec) -> tuple[dict[str, Any], list[int]]:
    """A spec as JSON has it, and the files that belong to it, for another process to fork the worker."""
    order = {"load": spec.load, "page": spec.page.number, "packages": spec.packages}
    return order, [spec.connection.sock.fileno(), spec.events.fileno(), *spec.outputs]


def of_order(order: dict[str, Any], files: Sequence[int], defaults: WorkerDefaults) -> WorkerSpec:
    """The spec that to_order() was given, in the worker that has been forked for it. Waits for the zygote's GO."""
    connection, number, *outputs = files
    events = socket.socket(fileno=number)
    if events.recv(1) != GO:
        os._exit(0)
    load = wire.Load(*order["load"])
    return WorkerSpec(
        load,
        Connection(socket.socket(fileno=connection), defaults.max_message * load.batch_size),
        defaults.pages.at(order["page"]),
        events,
        (outputs[0], outputs[1]),
        order["packages"],
    )
