# SPDX-License-Identifier: Apache-2.0
"""The program that is the server's process: start_model_server(), and its end when whoever started it is gone.

    python -m sagemaker_inference_lite.local.runner LIFELINE EVENTS DIRECTORY [--reloads-handler]

LIFELINE is a descriptor that nothing is written to: its end says that whoever started this is gone, however that ended.
The server then stops in order, and DIRECTORY, which nobody else is left to remove, is removed. EVENTS is a descriptor,
to which it writes what `server_events` has.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from contextlib import suppress

from sagemaker_inference_lite import model_server
from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.local import server_events
from sagemaker_inference_lite.local.server_events import Event, StartFailed


def run(lifeline: int, events: int, directory: str, reloads_handler: bool) -> int:
    """Serve until asked to stop; the exit status."""
    for descriptor in (lifeline, events):
        os.set_inheritable(descriptor, False)
    is_alone = threading.Event()

    def stop_when_alone() -> None:
        os.read(lifeline, 1)
        is_alone.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def tell(event: Event) -> None:
        with suppress(OSError):  # nobody is left to be told
            os.write(events, server_events.encode(event))

    threading.Thread(target=stop_when_alone, daemon=True).start()
    try:
        model_server.serve(None, tell, reloads_handler)
    except LaunchError as error:
        tell(StartFailed(error.exit_code, str(error)))
        return error.exit_code
    finally:
        if is_alone.is_set():
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], "--reloads-handler" in sys.argv[4:]))
