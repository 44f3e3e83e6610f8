# SPDX-License-Identifier: Apache-2.0
"""A worker: one model, one connection from the front end, one process forked from the zygote."""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import InferenceLiteError, WireError
from sagemaker_inference_lite.handlers.error_response import error_body
from sagemaker_inference_lite.handlers.handler_loader import Handle, import_handler, read_manifest, start_handler
from sagemaker_inference_lite.handlers.hints import hint_of
from sagemaker_inference_lite.handlers.import_path import put_first_on_path, python_path
from sagemaker_inference_lite.handlers.inference_script import CODE_DIRECTORY
from sagemaker_inference_lite.handlers.out_of_memory import is_memory_error
from sagemaker_inference_lite.ipc import events, wire, worker_status
from sagemaker_inference_lite.ipc.connection import Connection
from sagemaker_inference_lite.ipc.events import End, Event
from sagemaker_inference_lite.ipc.worker_status import WorkerStatus
from sagemaker_inference_lite.runtime import fork_guard, logs, standard_streams, tracebacks
from sagemaker_inference_lite.runtime.printable import text_of
from sagemaker_inference_lite.worker import responses
from sagemaker_inference_lite.worker.imports import imported_since, latest_import
from sagemaker_inference_lite.worker.oom_score import OomScore
from sagemaker_inference_lite.worker.responses import AnswerOptions

logger = logging.getLogger(__name__)

# How long after its last answer a worker counts as one that waits.
_QUIET_SECONDS = 1.0


class Refusal(NamedTuple):
    """Why a worker does not try to load its model, and what it answers its one request instead."""

    status: int
    message: str


class Loaded(NamedTuple):
    """A model that is ready.

    Attributes:
        handle: Answers a batch.
        context: What it is called with.
    """

    handle: Handle
    context: Context


class Job(NamedTuple):
    """What a worker is to do.

    Attributes:
        load: The front end's LOAD.
        connection: Where its requests come from.
        page: Shared with the zygote.
        score: Of this process.
        tell: Called with each event for the zygote, but for the last, which run() returns.
        default_handler: The handler service of models that name none of their own.
        find_default: Returns its entry point, which the zygote has imported already, or has not for good reason.
        image_directories: Where the modules lie that workers of other models may share.
        environ: This process's.
        provide_packages: Called with the model's directory before anything of the model's is imported.
        describes: Whether to tell what the model is, and what it takes.
        is_first_failure: Whether no other worker of the model has failed to load it for that reason.
        refusal: None, or why to refuse one request instead of loading.
        loaded: The model, where it is there already.
    """

    load: wire.Load
    connection: Connection
    page: WorkerStatus
    score: OomScore
    tell: Callable[[Event], None]
    default_handler: str | None
    find_default: Callable[[], Any]
    options: AnswerOptions
    environ: MutableMapping[str, str]
    provide_packages: Callable[[str], None]
    image_directories: tuple[str, ...] = ()
    describes: bool = False
    is_first_failure: Callable[[str], bool] = lambda sentence: True
    refusal: Refusal | None = None
    loaded: Loaded | None = None


def run(job: Job) -> End:
    """Do the job until the front end closes the connection; returns the worker's last event."""
    logs.belong_to_model(job.load.model_name)
    try:
        if job.refusal is not None:
            return _refuse_one(job, job.refusal)
        return _serve(job)
    except WireError as error:
        logger.error("the connection to the front end is given up: %s", error)
        return End.NO_MESSAGE
    except OSError as error:
        # The front end went away between a request and its answer.
        logger.warning("the front end closed the connection before its answer was sent: %s", error)
        job.page.enter(worker_status.CLOSED)
        return End.CLOSED


def _serve(job: Job) -> End:
    latest = latest_import()
    begun = time.monotonic()
    try:
        loaded = job.loaded or load_model(
            job.load, job.default_handler, job.find_default, job.environ, job.provide_packages
        )
    except BaseException as error:  # whatever a model raises at its load, SystemExit included, is a failed load
        fork_guard.end_if_forked(error)
        return _failed_load(job, error)
    fork_guard.end_if_forked()
    milliseconds = int(1000 * (time.monotonic() - begun))
    standard_streams.occupy()  # a model may have closed them
    job.page.enter(worker_status.IDLE)
    imported = imported_since(latest, job.image_directories)
    if imported:
        job.tell(events.Imported(tuple(imported)))
    # The zygote logs both: a worker's first line of log costs it 0.5 MB of pages.
    if loaded.context.load_report and not job.loaded:
        job.tell(events.Report(text_of(loaded.context.load_report)))
    if job.describes:
        job.tell(_description(loaded.handle))
    job.tell(events.Loaded(milliseconds))
    return _answer_requests(job, *loaded)


def _description(handle: Handle) -> events.Description:
    """What is known of the model behind a handler: nothing, where that is none of ours."""
    # Imported here because workers of a server that nobody looks at, and of handlers of other kinds, need neither.
    from sagemaker_inference_lite.default_handler_service import DefaultHandlerService
    from sagemaker_inference_lite.handlers.frameworks import examples

    service = getattr(handle, "__self__", None)
    if not isinstance(service, DefaultHandlerService):
        return events.Description("", "", "", "")
    example = examples.example(service.model) if service.decodes_by_default() else None
    content_type, body, takes = example or ("", "", "")
    return events.Description(examples.description(service.model), takes, content_type, body)


def _failed_load(job: Job, error: BaseException) -> End:
    """Log why the model cannot be loaded, and tell it to whoever wanted the model, under one id."""
    is_memory = is_memory_error(error)
    error_id, sentence = uuid.uuid4().hex, tracebacks.sentence_of(error)
    mend = hint_of(error)
    if mend and mend not in sentence:
        sentence = f"{sentence}. {mend}"
    sentence = f"it ran out of memory: {sentence}" if is_memory else sentence
    shown = tracebacks.exc_info(error) if job.is_first_failure(sentence) else None
    logger.error("the model could not be loaded, error id %s: %s", error_id, sentence, exc_info=shown)
    trace = tracebacks.text_of(error) if job.options.expose_tracebacks else ""
    job.tell(events.LoadFailure(error_id, sentence, _is_final(error), trace))
    return End.LOAD_MEMORY if is_memory else End.LOAD_FAILED


# Mistakes in a program's or an image's text, which are there at the next try too.
_FINAL = (SyntaxError, ImportError, NameError, AttributeError, InferenceLiteError)


def _is_final(error: BaseException) -> bool:
    return isinstance(tracebacks.cause_of(error), _FINAL)


def load_model(
    load: wire.Load,
    default_handler: str | None,
    find_default: Callable[[], Any],
    environ: MutableMapping[str, str],
    provide_packages: Callable[[str], None] = lambda model_dir: None,
) -> Loaded:
    """Load a model into this process.

    Args:
        load: Which one.
        default_handler: As in Job, like the others.
        environ: Gets PYTHONPATH, for interpreters that the model starts.

    Raises:
        BaseException: whatever the model or its handler raises.
    """
    model_dir = load.model_path
    context = Context(load.model_name, model_dir, batch_size=load.batch_size, gpu=load.gpu_id)
    os.chdir(model_dir)
    if model_dir not in sys.path:
        sys.path.insert(0, model_dir)
        sys.path_importer_cache.pop(model_dir, None)  # what another model had there, or nobody yet
    context.manifest = read_manifest(model_dir)
    code = os.path.abspath(os.path.join(model_dir, CODE_DIRECTORY))
    if os.path.isdir(code):
        provide_packages(model_dir)
        # AWS's toolkits import a model's program by its name (sagemaker_inference/transformer.py).
        put_first_on_path(code)
    environ["PYTHONPATH"] = python_path()
    is_default = load.handler == default_handler
    entry_point = find_default() if is_default else import_handler(load.handler, [Path(model_dir)])
    return Loaded(start_handler(entry_point, context), context)


def _answer_requests(job: Job, handle: Handle, context: Context) -> End:
    connection, page, options = job.connection, job.page, job.options
    job.score.waits()
    while True:
        requests = _receive(job)
        if requests is None:
            return End.CLOSED
        page.begin([request.request_id for request in requests])
        frame = responses.answer(handle, context, requests, options)
        fork_guard.end_if_forked()
        page.enter(worker_status.ANSWERING)
        connection.send(frame)
        page.enter(worker_status.IDLE)


def _receive(job: Job) -> list[wire.Request] | None:
    def begin() -> None:
        job.page.enter(worker_status.READING)
        if job.score.answers():
            # Not at each answer's end: to write a score takes longer than to send an answer.
            job.connection.tell_when_quiet(_QUIET_SECONDS, job.score.waits)

    message = job.connection.receive(begin)
    if message is None:
        job.page.enter(worker_status.CLOSED)
        return None
    if isinstance(message, wire.Load):
        raise WireError("a second LOAD on a connection whose model is loaded")
    return message


def _refuse_one(job: Job, refusal: Refusal) -> End:
    job.page.enter(worker_status.IDLE)
    requests = _receive(job)
    if requests is None:
        return End.CLOSED
    ids = [request.request_id for request in requests]
    job.page.begin(ids)
    error_id = uuid.uuid4().hex
    logger.error("request %s is refused, error id %s: %s", ", ".join(ids), error_id, refusal.message)
    body = error_body("ModelNotLoaded", refusal.message, error_id=error_id)
    frame = responses.refusal(len(ids), refusal.status, body)
    job.page.enter(worker_status.ANSWERING)
    job.connection.send(frame)
    job.page.enter(worker_status.IDLE)
    return End.REFUSED
