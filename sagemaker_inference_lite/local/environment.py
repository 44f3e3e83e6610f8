# SPDX-License-Identifier: Apache-2.0
"""What a local server's environment is: this process's, with what was asked for in the command's options."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.mms import properties

DEFAULT_PORT = 8080
LOOPBACK = "127.0.0.1"

# The front end refuses ports from 32767 on, and those of outgoing connections begin at 32768.
_FREE_PORTS = (*range(8081, 8181), *range(18080, 18180))


_ACCESS_LOGS = {None: None, True: "all", False: "none"}


class Asked(NamedTuple):
    """What a person asked for. None stands for what the environment says, and else for the container's default.

    Attributes:
        host: The address to listen at.
        handler: SAGEMAKER_HANDLER.
        workers: SAGEMAKER_MODEL_SERVER_WORKERS.
        timeout: SAGEMAKER_MODEL_SERVER_TIMEOUT, in seconds.
        access_log: Whether requests are logged.
        variables: Further variables, which win over all others.
    """

    host: str = LOOPBACK
    handler: str | None = None
    workers: int | None = None
    timeout: int | None = None
    access_log: bool | None = None
    variables: Mapping[str, str] = {}


def server_environment(
    environ: Mapping[str, str], asked: Asked, base_dir: Path, temporary: Path, port: int, several: bool
) -> dict[str, str]:
    """The server's whole environment.

    Args:
        environ: This process's.
        base_dir: Where the models are laid out.
        temporary: Where the server's own temporary files go.
        port: The port to listen at.
        several: Whether it is to serve several models.
    """
    wanted = {
        "SAGEMAKER_HANDLER": asked.handler,
        "SAGEMAKER_MODEL_SERVER_WORKERS": _text(asked.workers),
        # The one of the two names that wins.
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": _text(asked.timeout),
        "SAGEMAKER_MODEL_SERVER_ACCESS_LOG": None
        if asked.access_log is None
        else "all"
        if asked.access_log
        else "none",
    }
    return {
        **environ,
        "SAGEMAKER_BASE_DIR": str(base_dir),
        "SAGEMAKER_MULTI_MODEL": "true" if several else "false",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TMPDIR": str(temporary),
        **properties.listening_at(asked.host, port, with_management=several),
        **{name: value for name, value in wanted.items() if value is not None},
        **asked.variables,
    }


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def port_for(host: str) -> int:
    """The port to take where none was asked for: 8080, or the next that is free."""
    return next((port for port in (DEFAULT_PORT, *_FREE_PORTS) if is_free(host, port)), DEFAULT_PORT)
