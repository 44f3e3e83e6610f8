# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal sees: colours there and nowhere else, messages on stderr, libraries that are missing."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, TextIO

import click

from sagemaker_inference_lite.errors import InferenceLiteError

if TYPE_CHECKING:
    from rich.console import Console


class MissingExtraError(InferenceLiteError):
    """A command needs a library that an extra of the package brings."""


def error(message: str) -> None:
    """One message about what has gone wrong, on stderr."""
    click.secho(f"error: {message}", err=True, fg="red", color=is_coloured(sys.stderr))


def warning(message: str) -> None:
    """One message about what is not as it should be, on stderr."""
    click.secho(f"warning: {message}", err=True, fg="yellow", color=is_coloured(sys.stderr))


def hint(message: str) -> None:
    """What to do about it, below the message."""
    for line in message.splitlines():
        click.secho(f"  {line}".rstrip(), err=True, dim=True, color=is_coloured(sys.stderr))


def console(command: str, *, stderr: bool = False) -> Console:
    """Rich's console, for tables, progress and what is to be coloured. It is plain text where nobody sees colours.

    Args:
        command: The command that needs it, for the message where rich is missing.
        stderr: Whether it writes to stderr.

    Raises:
        MissingExtraError: rich is not installed.
    """
    module = library("rich.console", command)
    stream = sys.stderr if stderr else sys.stdout
    made: Console = module.Console(
        stderr=stderr, no_color=not is_coloured(stream), highlight=False, soft_wrap=not is_terminal(stream)
    )
    return made


def library(name: str, command: str, extra: str = "local") -> ModuleType:
    """A module that a command needs and the package does not depend on.

    Args:
        name: The module.
        command: The command that needs it.
        extra: The extra of this package that brings it.

    Raises:
        MissingExtraError: It is not installed. The message says which extra brings it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        package = name.partition(".")[0]
        if (missing.name or "").partition(".")[0] != package:
            raise  # it is installed, and misses something itself
        raise MissingExtraError(
            f"`{command}` needs the package {package}, which is not installed: "
            f"pip install 'sagemaker_inference_lite[{extra}]'"
        ) from missing


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees what is written there."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def is_coloured(stream: TextIO | None) -> bool:
    """Whether what is written there may be coloured."""
    # NO_COLOR: set to anything but "" it asks for none (no-color.org). "dumb" is a terminal that knows no colours.
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
