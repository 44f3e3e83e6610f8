# SPDX-License-Identifier: Apache-2.0
"""A server for tests: models served as a container would serve them, on this machine, while a test runs.

from sagemaker_inference_lite import testing

def test_it():
with testing.serving("model") as url:
assert requests.post(f"{url}/invocations", json=[[1, 2]]).status_code == 200
"""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_inference_lite.errors import ModelLoadError, ProcessEndedError
from sagemaker_inference_lite.local import environment, management
from sagemaker_inference_lite.local.environment import LOOPBACK, Asked
from sagemaker_inference_lite.local.layout import laid_out
from sagemaker_inference_lite.local.management import LoadFailed
from sagemaker_inference_lite.local.model_paths import find_models
from sagemaker_inference_lite.local.server_events import StartFailed
from sagemaker_inference_lite.local.server_process import Ended, EventStream, Output, ServerProcess
from sagemaker_inference_lite.supervision.observer import Ready

_LINES = 200

# Below those of outgoing connections, which the front end refuses.
_LEAST_PORT, _MOST_PORT = 18000, 32000


@contextmanager
def serving(*paths: str | os.PathLike[str], handler_service: str | None = None, **environ: str) -> Iterator[str]:
    """Serves models until the block is left.

    Args:
        paths: Models' files, directories or archives, as the command ``serve`` takes them. One is asked at
            /invocations, several at /models/NAME/invoke, where NAME is that of the file or the directory.
        handler_service: As for `model_server.start_model_server`.
        environ: Further variables of the server's, such as SAGEMAKER_MODEL_SERVER_WORKERS.

    Yields:
        The server's URL, at a free port of 127.0.0.1.

    Raises:
        ModelLoadError: A model cannot be loaded. The message says why.
        ProcessEndedError: The server did not start. The message has its reason, and what it printed last.
        LaunchError: A path is no model's, or settings cannot be used.
    """
    models = find_models([os.fspath(path) for path in paths], has_handler=handler_service is not None)
    asked = Asked(handler=handler_service, workers=1, access_log=True, variables=tuple(environ.items()))
    events = EventStream()
    with laid_out(models) as layout:
        port = _port()
        variables = environment.server_environment(os.environ, asked, layout.base_dir, port, models.several)
        with ServerProcess(variables, layout.base_dir, layout.lock, events):
            _wait_until_ready(events)
            # What it prints from now on is nobody's concern, and must not hold it up.
            threading.Thread(target=_read_on, args=(events,), daemon=True).start()
            for model in models.models if models.several else ():
                outcome = management.load(LOOPBACK, port, model.name, Path(layout.directories[model.name]))
                if isinstance(outcome, LoadFailed):
                    raise ModelLoadError(outcome.message)
            yield f"http://{LOOPBACK}:{port}"


def _port() -> int:
    """One of many, because tests run beside each other, and each would take the first that is free."""
    while True:
        port = random.randrange(_LEAST_PORT, _MOST_PORT)
        if environment.is_free(LOOPBACK, port):
            return port


def _wait_until_ready(events: EventStream) -> None:
    printed: deque[str] = deque(maxlen=_LINES)
    failure = ""
    while True:
        event = events.get()
        if isinstance(event, Ready):
            return
        if isinstance(event, Output):
            printed.append(event.line)
        elif isinstance(event, StartFailed):
            failure = event.message
        elif isinstance(event, Ended):
            lines = "\n".join(printed)
            raise ProcessEndedError(f"{failure or f'The server {event.how}.'}\n{lines}", event.status)


def _read_on(events: EventStream) -> None:
    while not isinstance(events.get(), Ended):
        pass
