# SPDX-License-Identifier: Apache-2.0
"""The zygote's program: imports what workers will need, then runs the zygote."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from pathlib import Path
from types import ModuleType

from sagemaker_inference_lite.errors import HandlerError
from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.ipc.worker_status import StatusPages
from sagemaker_inference_lite.machine.sizing import MOST_WORKERS
from sagemaker_inference_lite.requirements import overlay
from sagemaker_inference_lite.runtime import fork_guard, logs, standard_streams
from sagemaker_inference_lite.settings import Settings
from sagemaker_inference_lite.worker.imports import image_directories
from sagemaker_inference_lite.worker.responses import AnswerOptions
from sagemaker_inference_lite.worker.spec import WorkerDefaults
from sagemaker_inference_lite.zygote.parent import Supervisor, remove
from sagemaker_inference_lite.zygote.shared_imports import (
    UnsafeImportError,
    entry_point_finder,
    import_ahead,
    start_afresh,
)
from sagemaker_inference_lite.zygote.zygote import Zygote

logger = logging.getLogger("sagemaker_inference_lite.zygote")

_STDOUT = 1


def _prepare(arguments: argparse.Namespace, settings: Settings, supervisor: Supervisor) -> WorkerDefaults:
    """Import what workers will need; raises HandlerError where that fails, UnsafeImportError where it must not be."""
    left_out = arguments.not_imported
    import_ahead(settings.model_server_preload, left_out, supervisor)
    # What a model's own directories bring is never imported ahead for others.
    of_image = image_directories(sys.path)
    return WorkerDefaults(
        settings=settings,
        handler=arguments.handler,
        find_entry_point=entry_point_finder(arguments.handler, arguments.look_in, left_out, supervisor),
        image_directories=of_image,
        environ=os.environ,
        options=AnswerOptions(arguments.max_response_size, settings.expose_tracebacks, arguments.decode_input),
        pages=StatusPages(MOST_WORKERS),
        max_message=arguments.max_request_size + wire.HEADROOM_BYTES,
        describes=arguments.describe,
    )


def main() -> int:
    """The process's entry point: reads the environment and the arguments that start_model_server() gives it."""
    parser = argparse.ArgumentParser(prog="zygote")
    parser.add_argument("--supervisor-fd", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--handler", required=True)
    parser.add_argument("--max-request-size", type=int, required=True)
    parser.add_argument("--max-response-size", type=int, required=True)
    parser.add_argument("--decode-input", action="store_true")
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--look-in", type=Path, action="append", default=[])
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--not-imported", action="append", default=[])
    arguments = parser.parse_args()
    environ = dict(os.environ)
    settings = Settings.from_environ(environ)
    logs.install()
    standard_streams.set_up()
    logging.basicConfig(level=settings.container_log_level, handlers=[logs.own_handler(_STDOUT)])
    supervisor = Supervisor(socket.socket(fileno=arguments.supervisor_fd))
    stop_watching = supervisor.watch(arguments.directory)
    if arguments.packages is not None:
        overlay.activate(arguments.packages)
    fork_guard.claim([supervisor.sock])  # what a module forks when it is imported is no second zygote
    try:
        defaults = _prepare(arguments, settings, supervisor)
    except UnsafeImportError as unsafe:
        start_afresh(unsafe, "sagemaker_inference_lite.zygote", environ)
    except HandlerError as error:
        logger.error("%s", error, exc_info=error.__cause__)
        supervisor.tell_failure(str(error))
        return error.exit_code
    fork_guard.release()
    stop_watching()
    standard_streams.occupy()  # the handler may have closed them
    try:
        Zygote(arguments.directory, supervisor, defaults).run()
    finally:
        # The supervisor removes it; where it was killed, nobody else is left to.
        remove(arguments.directory)
    return 0


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the working directory, which "python -m" puts before the standard library
    # What multiprocessing starts anew imports the file of __main__ once more, and a handler may write to it.
    sys.modules["__main__"] = ModuleType("__main__")
    sys.exit(main())
