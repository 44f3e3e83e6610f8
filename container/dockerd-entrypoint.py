# SPDX-License-Identifier: Apache-2.0
"""The image's entry point: ``serve``, which SageMaker passes, starts the server; anything else is run as a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from sagemaker_inference_lite import model_server
from sagemaker_inference_lite.errors import LaunchError

USAGE = "usage: dockerd-entrypoint.py serve, or dockerd-entrypoint.py COMMAND [ARGUMENT ...]"
HANDLER_IN_IMAGE = Path("/home/model-server/model_handler.py")
HANDLER_BESIDE = Path(__file__).resolve().with_name("model_handler.py")


def main(arguments: Sequence[str]) -> int:
    """Does what the arguments say and returns the exit status."""
    if not arguments:
        print(USAGE, file=sys.stderr)
        return 2
    return serve(os.environ) if arguments[0] == "serve" else run(arguments)


def serve(environ: Mapping[str, str]) -> int:
    """Serves until SIGTERM or SIGINT. An error that ends the server is one message; its cause is in the log."""
    try:
        model_server.start_model_server(handler_service=handler_service(environ))
    except LaunchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the server handles signals, or while it ends
        return 128 + signal.SIGINT
    return 0


def handler_service(environ: Mapping[str, str]) -> str | None:
    """SAGEMAKER_HANDLER, else model_handler.py beside this file (a checkout), else where the image has it."""
    if environ.get("SAGEMAKER_HANDLER", "").strip():
        return None  # start_model_server() reads it
    return f"{HANDLER_BESIDE if HANDLER_BESIDE.is_file() else HANDLER_IN_IMAGE}:handle"


def run(command: Sequence[str]) -> int:
    """Runs a command and returns its status, as a shell does: 128 + the signal where one ended it."""
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    pass_signals_on(child)
    status = child.wait()
    return status if status >= 0 else 128 - status


def pass_signals_on(child: subprocess.Popen[bytes]) -> None:
    """Sends the command what this process is sent: the first process of a container gets what is meant for it."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, pass_on)
    if sys.stdin is not None and sys.stdin.isatty():
        # Ctrl-C reaches the command from the terminal already.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
