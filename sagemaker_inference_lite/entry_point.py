# SPDX-License-Identifier: Apache-2.0
"""What a container's entry point does: ``serve``, which SageMaker passes, serves; anything else is run as a command.

The whole ``dockerd-entrypoint.py`` may be:

    import sys
    from sagemaker_inference_lite import entry_point
    sys.exit(entry_point.main(sys.argv[1:], handler_service="/home/model-server/model_handler.py:handle"))
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from sagemaker_inference_lite import model_server
from sagemaker_inference_lite.errors import LaunchError

_USAGE = "usage: dockerd-entrypoint.py serve, or dockerd-entrypoint.py COMMAND [ARGUMENT ...]"


def main(arguments: Sequence[str], handler_service: str | None = None) -> int:
    """Does what the arguments say.

    Args:
        arguments: Those of the container: ``serve``, or a command with its own arguments.
        handler_service: As for `model_server.start_model_server`, but SAGEMAKER_HANDLER wins where it is set.

    Returns:
        The exit status: 0 after a stop that was asked for; what a `LaunchError` carries, whose sentence goes to
        stderr; the command's own, or 128 + the signal that ended it; 127 and 126 for one that is not there or cannot
        be run; 2 without arguments.
    """
    if not arguments:
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    return _serve(handler_service) if arguments[0] == "serve" else _run(arguments)


def _serve(handler_service: str | None) -> int:
    is_set = os.environ.get("SAGEMAKER_HANDLER", "").strip()
    try:
        model_server.start_model_server(None if is_set else handler_service)
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:  # before the server handles signals, or while it ends
        return 128 + signal.SIGINT
    return 0


def _run(command: Sequence[str]) -> int:
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be run: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126
    _pass_signals_on(child)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _pass_signals_on(child: subprocess.Popen[bytes]) -> None:
    """Send the command what this process is sent: the first process of a container gets what is meant for it."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, pass_on)
    if sys.stdin is not None and sys.stdin.isatty():
        # Ctrl-C reaches the command from the terminal already.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
