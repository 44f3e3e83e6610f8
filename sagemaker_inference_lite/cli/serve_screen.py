# SPDX-License-Identifier: Apache-2.0
"""What ``serve`` shows: the server's lines, progress while it starts, and what it serves."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.runtime.printable import on_one_line
from sagemaker_inference_lite.supervision.observer import ModelLoaded

if TYPE_CHECKING:
    from rich.status import Status

_LEVEL = re.compile(r"\[(DEBUG|INFO|WARNING|ERROR|CRITICAL)\]")
_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class Served(NamedTuple):
    """A model as it is shown.

    Attributes:
        name: Its name.
        path: Where it came from.
        url: Where it is asked.
        known: What it is and how it can be asked, as far as it says.
    """

    name: str
    path: Path
    url: str
    known: ModelLoaded


class ServeScreen:
    """Lines on stdout. Progress and colours are for a terminal alone.

    Raises:
        MissingExtraError: rich is not installed.
    """

    def __init__(self) -> None:
        self._console = terminal.console("serve")
        self._shown: Sequence[tuple[str, str]] = ()
        self._had_terminal = _has_terminal()
        self._status: Status | None = None

    def show_instead(self, shown: Sequence[tuple[str, str]]) -> None:
        """From now on show the second text of a pair for the first, in lines of the server's."""
        self._shown = shown

    def server_line(self, line: str) -> None:
        """A line of the server's or of a model's."""
        found = _LEVEL.search(line[:100])
        self._print(self.as_shown(line), _STYLES.get(found[1], "") if found else "")

    def as_shown(self, text: str) -> str:
        """A text of the server's with the paths that the person knows."""
        for private, own in self._shown:
            text = text.replace(private, own)
        return text

    def note(self, text: str, style: str = "") -> None:
        """A line of our own."""
        self._print(text, style)

    def progress(self, text: str) -> None:
        """What is being waited for, at a terminal."""
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(on_one_line(text))

    def end_progress(self) -> None:
        """Nothing is waited for any more."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def banner(self, models: Sequence[Served], address: str) -> None:
        """What is served, where, and how to ask it."""
        self.end_progress()
        width = max(len(model.name) for model in models)
        self._print("")
        for model in models:
            what = ", ".join(filter(None, (model.known.description, model.known.takes)))
            self._print(f"  {model.name.ljust(width)}  {what or model.path}", "bold")
        self._print("")
        self._print(f"  {address}    Ctrl-C stops it", "bold")
        self._print("")
        example = next((model for model in models if model.known.example), models[0])
        self._print(f"  {curl_line(example)}")
        self._print("")

    def is_hung_up(self) -> bool:
        """Whether the terminal is gone that this was started at."""
        return self._had_terminal and not _has_terminal()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.end_progress()

    def _print(self, text: str, style: str = "") -> None:
        from rich.text import Text

        line: Any = Text(on_one_line(text), style)
        self._console.print(line, soft_wrap=True)


def curl_line(model: Served) -> str:
    """A line for a shell that asks the model; with a file to be named where no request is known that it can answer."""
    content_type, body = model.known.content_type or "application/json", model.known.example or "@FILE"
    return shlex.join(["curl", model.url, "-H", f"Content-Type: {content_type}", "-d", body])


def _has_terminal() -> bool:
    return terminal.is_terminal(sys.stdin) or terminal.is_terminal(sys.stdout)
