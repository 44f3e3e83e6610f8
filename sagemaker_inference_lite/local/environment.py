# SPDX-License-Identifier: Apache-2.0
"""What a local server's environment is: this process's, with what was asked for in the command's options."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.errors import JavaNotFoundError, SettingsError
from sagemaker_inference_lite.mms import command, java, properties

DEFAULT_PORT = 8080
LOOPBACK = "127.0.0.1"

# The directory for temporary files, in the base directory.
TEMPORARY_NAME = "tmp"

# The front end refuses ports from 32767 on, and those of outgoing connections begin at 32768.
_FREE_PORTS = (*range(8081, 8181), *range(18080, 18180))

_PORT = "SAGEMAKER_BIND_TO_PORT"
_BASE_DIR = "SAGEMAKER_BASE_DIR"
_MULTI_MODEL = "SAGEMAKER_MULTI_MODEL"
_TEMPORARY = "TMPDIR"

# What else than these the server is told would not be what the command itself knows of it.
_OF_THE_COMMAND = {
    _PORT: "--port says it",
    _BASE_DIR: "PATH says what is served",
    _MULTI_MODEL: "several paths, or --model NAME=PATH, make it true",
    _TEMPORARY: "set it for the command itself",
    **dict.fromkeys(properties.listening_at("", 0, with_management=True), "--host and --port say it"),
}


class Asked(NamedTuple):
    """What a person asked for. None stands for what the environment says, and else for the container's default.

    Attributes:
        host: The address to listen at.
        port: The port; None for any that is free.
        handler: The handler service.
        workers: Workers per model.
        timeout: The longest that a request may take, in seconds.
        access_log: Whether requests are logged.
        variables: Further variables, which win over all others.
        reloads: Whether workers are replaced when what they serve changes.
    """

    host: str = LOOPBACK
    port: int | None = None
    handler: str | None = None
    workers: int | None = None
    timeout: int | None = None
    access_log: bool = True
    variables: tuple[tuple[str, str], ...] = ()
    reloads: bool = False


def server_environment(
    environ: Mapping[str, str], asked: Asked, base_dir: Path, port: int, several: bool
) -> dict[str, str]:
    """The server's whole environment.

    Args:
        environ: This process's.
        base_dir: Where the models are laid out.
        port: The port to listen at.
        several: Whether it is to serve several models.
    """
    options = {
        "SAGEMAKER_HANDLER": asked.handler,
        "SAGEMAKER_MODEL_SERVER_WORKERS": asked.workers,
        # The one of the two names that wins.
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": asked.timeout,
        "SAGEMAKER_MODEL_SERVER_ACCESS_LOG": "all" if asked.access_log else "none",
    }
    given = {name: str(value) for name, value in options.items() if value is not None}
    return {
        **properties.without_overruling(environ, given),
        _BASE_DIR: str(base_dir),
        _MULTI_MODEL: "true" if several else "false",
        _PORT: str(port),
        # So that nothing of the server's is left even where it is killed.
        _TEMPORARY: str(base_dir / TEMPORARY_NAME),
        **properties.listening_at(asked.host, port, with_management=several),
        **given,
        # A file that has been edited twice in a second, and has the same size, would be taken for what was compiled.
        **({"PYTHONDONTWRITEBYTECODE": "1"} if asked.reloads else {}),
        **dict(asked.variables),
    }


def shown(environ: Mapping[str, str], asked: Asked, several: bool) -> dict[str, str]:
    """The server's environment as it would be, for a person to look at: no directory has been made yet."""
    base_dir = Path(tempfile.gettempdir(), "sil-serve-...")
    return server_environment(environ, asked, base_dir, asked.port or free_port(asked.host), several)


def check_installed(environ: Mapping[str, str]) -> None:
    """Refuse to start without what the server is made of.

    Raises:
        PreflightError: Java, or multi-model-server, is not installed. The message says how to get it.
    """
    command.find_model_server_jar()
    try:
        java.find_java(environ)
    except JavaNotFoundError as error:
        raise JavaNotFoundError(f"{error} On a laptop: pip install 'sagemaker_inference_lite[local]'.") from error


def check_variables(environ: Mapping[str, str], variables: Iterable[tuple[str, str]]) -> None:
    """Refuse what would not work, before anything is started.

    Raises:
        SettingsError: Values cannot be used, or are the command's to set. It names them all.
    """
    given = dict(variables)
    problems = [f"--env {name}: {why}" for name, why in _OF_THE_COMMAND.items() if name in given]
    if problems:
        raise SettingsError(problems)
    properties.read_settings({**environ, **given})


def asked_port(environ: Mapping[str, str]) -> int | None:
    """The port that the environment asks for; None where it asks for none."""
    return properties.read_settings(environ).bind_to_port if environ.get(_PORT, "").strip() else None


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str) -> int:
    """The port to take where none was asked for: 8080, or the next that is free."""
    return next((port for port in (DEFAULT_PORT, *_FREE_PORTS) if is_free(host, port)), DEFAULT_PORT)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at a host."""
    return host == "localhost" or host.startswith("127.")


def reached_at(host: str) -> str:
    """The address at which this machine reaches what listens at a host."""
    return LOOPBACK if host == "0.0.0.0" else host
