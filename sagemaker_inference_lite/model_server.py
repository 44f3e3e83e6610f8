# SPDX-License-Identifier: Apache-2.0
"""start_model_server(): from the environment to a running server, and to its end.

environment -> Settings -> LaunchPlan -> requirements -> zygote and front end up -> loop -> drain -> everything ended
"""

from __future__ import annotations

import logging
import os

from sagemaker_inference_lite.launch.plan import make_plan
from sagemaker_inference_lite.launch.server import Server
from sagemaker_inference_lite.mms import properties
from sagemaker_inference_lite.runtime import logs, standard_streams, uncaught
from sagemaker_inference_lite.runtime.processes import adopting_orphans
from sagemaker_inference_lite.settings import warnings_for
from sagemaker_inference_lite.supervision import observer
from sagemaker_inference_lite.supervision.captured_output import CapturedOutput
from sagemaker_inference_lite.supervision.loop import Loop
from sagemaker_inference_lite.supervision.private_directory import private_directory

logger = logging.getLogger(__name__)

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
    # Orphans are what models leave behind, should the zygote die before it has ended them.
    with Loop() as loop, private_directory("sil-") as directory, adopting_orphans(), CapturedOutput() as output:
        plan = make_plan(settings, environ, directory, handler_service or settings.handler)
        with Server(plan, loop, output, observe, reloads_handler) as server:
            if server.install_requirements() and server.start():
                server.run_until_asked_to_stop()
                server.drain()


def _configure_logging(level: int) -> None:
    """Log to stdout, where the platform looks, unless whoever calls has set up logging already."""
    package = logging.getLogger("sagemaker_inference_lite")
    package.setLevel(level)
    if not package.hasHandlers():
        package.addHandler(logs.LineHandler(_STDOUT))
