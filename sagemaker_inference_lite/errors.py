# SPDX-License-Identifier: Apache-2.0
"""Everything this library raises, as one tree.

    InferenceLiteError
    ├── LaunchError                  start_model_server() cannot go on; carries an exit code
    │   ├── SettingsError            the environment holds values that cannot be used (all of them named)
    │   ├── PreflightError           something is missing before anything was started
    │   │   ├── JavaNotFoundError
    │   │   ├── ModelServerNotFoundError
    │   │   ├── PortInUseError
    │   │   └── DirectoryError
    │   ├── HandlerError             the handler service cannot be found or imported
    │   ├── StartTimeoutError        a process did not become ready in time
    │   ├── ProcessEndedError        a process that the server cannot do without has ended
    │   ├── ModelLoadError           single-model mode: the model cannot be loaded
    │   └── RequirementsError        what the model's code/requirements.txt asks for cannot be installed
    ├── ArchiveError                 an archive cannot be packed or unpacked
    ├── ModelError                   one model cannot be loaded; the server goes on
    ├── WireError                    the front end sent bytes that are not a message
    └── RequestError                 one request is answered with an error status
        ├── ClientError              4xx: the caller's mistake
        │   ├── UnsupportedMediaTypeError    415
        │   └── NotAcceptableError           406
        └── ServerError              5xx: ours

Launch errors carry the exit code that an entry point should end with; request errors carry the
HTTP status that the caller is answered with. Only entry points turn either into an exit or a print.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from typing import Any


class InferenceLiteError(Exception):
    """The root of all errors of this library."""


class LaunchError(InferenceLiteError):
    """The server cannot start or cannot go on.

    Attributes:
        exit_code: What an entry point should exit with, 1 to 255.
    """

    exit_code = 1


class SettingsError(LaunchError):
    """The environment holds values that cannot be used.

    Attributes:
        problems: One sentence for each, naming the variable, its value and what was expected.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 setting cannot be used" if count == 1 else f"{count} settings cannot be used"
        super().__init__("\n  ".join([f"{head}:", *self.problems]))


class PreflightError(LaunchError):
    """Something that the server needs is missing; nothing has been started."""

    exit_code = 3


class JavaNotFoundError(PreflightError):
    """No Java runtime was found, or the one named does not run."""


class ModelServerNotFoundError(PreflightError):
    """The multi-model-server package is not installed, or its jar is not there."""


class PortInUseError(PreflightError):
    """Another process listens on the port that the server was told to bind."""


class DirectoryError(PreflightError):
    """A directory is missing, empty, not readable or not writable."""


class HandlerError(LaunchError):
    """A handler service cannot be found or imported, or has no entry point.

    Raised at start for the handler of the whole server, and by a load for the handler of one model.
    """

    exit_code = 4


class StartTimeoutError(LaunchError):
    """A process was started but did not become ready within its limit."""

    exit_code = 5


class ProcessEndedError(LaunchError):
    """A process that the server cannot do without has ended.

    Args:
        message: One sentence: which process, how it ended, what that suggests.
        exit_code: The process's own exit status, or 128 + the signal that ended it.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        # A process that nobody asked to end is a failure even where it ended with status 0.
        self.exit_code = exit_code or 1
        super().__init__(message)


class ModelLoadError(LaunchError):
    """Single-model mode: the model could not be loaded in the tries that it is given."""

    exit_code = 6


class RequirementsError(LaunchError):
    """What a model's code/requirements.txt asks for cannot be installed, or may not be."""

    exit_code = 7


class ArchiveError(InferenceLiteError):
    """An archive cannot be packed, or cannot be unpacked without harm."""


class ModelError(InferenceLiteError):
    """A model cannot be loaded; in multi-model mode the server and its other models go on."""


class WireError(InferenceLiteError):
    """Bytes of the front end's are not a message; the connection they came on cannot be used further."""


class RequestError(InferenceLiteError):
    """A request that is answered with an error status.

    Raise one of these from a handler to choose the status and the text that the caller sees.

    Args:
        status: The HTTP status.
        message: What the caller is told. It is sent as it is, so it must hold nothing private.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is unpickled by calling its class with its text alone, and handlers that have processes of
        # their own get their exceptions so.
        return copyreg.__newobj__, (type(self), self.message), self.__dict__  # type: ignore[attr-defined] # hidden


class ClientError(RequestError):
    """The caller's mistake: a status from 400 to 499 and a message for the caller.

    Raises:
        ValueError: status is not from 400 to 499.
    """

    def __init__(self, status: int, message: str) -> None:
        if not 400 <= status <= 499:
            raise ValueError(f"ClientError takes a status from 400 to 499, not {status!r}")
        super().__init__(status, message)


class UnsupportedMediaTypeError(ClientError):
    """415 (RFC 9110, section 15.5.16): the request's content type is none that can be decoded."""

    def __init__(self, message: str) -> None:
        super().__init__(415, message)


class NotAcceptableError(ClientError):
    """406 (RFC 9110, section 15.5.7): none of the types in Accept can be made."""

    def __init__(self, message: str) -> None:
        super().__init__(406, message)


class ServerError(RequestError):
    """Our mistake, or the model's: a status from 500 to 599 and a message for the caller.

    Raises:
        ValueError: status is not from 500 to 599.
    """

    def __init__(self, status: int, message: str) -> None:
        if not 500 <= status <= 599:
            raise ValueError(f"ServerError takes a status from 500 to 599, not {status!r}")
        super().__init__(status, message)
