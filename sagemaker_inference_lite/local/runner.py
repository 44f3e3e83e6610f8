# SPDX-License-Identifier: Apache-2.0
"""The program that is the server's process: start_model_server(), and its end when whoever started it is gone.

    python -m sagemaker_inference_lite.local.runner LIFELINE DIRECTORY

LIFELINE is a descriptor that nothing is written to: its end says that whoever started this is gone, however that ended.
The server then stops in order, and DIRECTORY, which nobody else is left to remove, is removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading

from sagemaker_inference_lite import model_server
from sagemaker_inference_lite.errors import LaunchError


def run(lifeline: int, directory: str) -> int:
    """Serve until asked to stop; the exit status."""
    alone = threading.Event()

    def wait_for_the_end() -> None:
        os.read(lifeline, 1)
        alone.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    try:
        model_server.start_model_server()
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    finally:
        if alone.is_set():
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2]))
