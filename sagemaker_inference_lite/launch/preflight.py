# SPDX-License-Identifier: Apache-2.0
"""What can be found wrong before anything is started, each with its mend."""

from __future__ import annotations

import errno
import os
import resource
import socket
from contextlib import suppress
from pathlib import Path
from typing import Union

from sagemaker_inference_lite.errors import DirectoryError, PortInUseError, PreflightError

Address = Union[tuple[str, int], Path]


def check_address(address: Address) -> None:
    """Raise PortInUseError if somebody listens there, PreflightError if nobody can."""
    if isinstance(address, Path):
        return
    host, port = address
    with socket.socket(_family(host)) as probe:
        # As the front end does it: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(
                    f"Port {port} is in use. End the process that listens on it, "
                    "or set SAGEMAKER_BIND_TO_PORT to another."
                ) from error
            raise PreflightError(f"Nothing can listen on {host}:{port}: {error.strerror or error}.") from error


def is_listening(address: Address) -> bool:
    """Whether somebody accepts connections at the address."""
    family = socket.AF_UNIX if isinstance(address, Path) else _family(address[0])
    with socket.socket(family) as probe:
        probe.settimeout(1)
        # Connecting to the address of all interfaces reaches this machine's own (ip(7), INADDR_ANY).
        return probe.connect_ex(str(address) if isinstance(address, Path) else address) == 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def check_model_directory(path: Path) -> None:
    """Single-model mode: raise DirectoryError unless the directory is there, readable, and not empty."""
    try:
        entries = os.listdir(path)
    except FileNotFoundError:
        raise DirectoryError(_missing(path)) from None
    except OSError as error:
        raise DirectoryError(f"The model directory {path} cannot be read: {error.strerror}. {_WHERE}") from error
    if not entries:
        raise DirectoryError(f"The model directory {path} is empty. {_WHERE}")
    if "," in str(path):
        raise DirectoryError(
            f"The model directory {path} has a comma in its path, which the front end takes for a list."
        )


def _missing(path: Path) -> str:
    """Why a model directory that does not exist does not, as far as that can be seen."""
    if path.is_symlink():
        return f"The model directory {path} is a link to {os.readlink(path)}, which does not exist. {_WHERE}"
    base = path.parent
    if base.name == path.name and base.is_dir():
        return (
            f"The model directory {path} does not exist. SAGEMAKER_BASE_DIR is {base}, one level too deep: it is the "
            f"directory that holds {path.name}/, so set it to {base.parent}."
        )
    if any((base / name).exists() for name in ("code", "inference.py")) or any(base.glob("model.*")):
        return (
            f"The model directory {path} does not exist, and the model lies in {base}: SAGEMAKER_BASE_DIR is the "
            f"directory that holds {path.name}/, so move the model into {path}, or mount it there."
        )
    return f"The model directory {path} does not exist. {_WHERE}"


_WHERE = (
    "The platform unpacks model.tar.gz there; SAGEMAKER_BASE_DIR moves it, SAGEMAKER_MULTI_MODEL=true does without."
)


def raise_open_file_limit() -> int:
    """Let this process and its children have as many files open as it may: a worker costs two in each of two.

    Returns:
        How many that are; negative where there is no limit.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
