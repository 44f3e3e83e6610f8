# SPDX-License-Identifier: Apache-2.0
"""What a worker tells the zygote: typed messages, each one packet of a socket of its own (SOCK_SEQPACKET).

A socket, because any exit status may be a handler's. The model can write to it as well as the worker, so whatever
comes is checked as an attacker's: parse() raises WireError, and nothing else, at what is no event.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Union

from sagemaker_inference_lite.errors import WireError

# The names of a few thousand modules. What is longer is no event.
LONGEST_EVENT = 100_000

_IMPORTED = b"I"
_LOADED = b"L"
_REPORT = b"P"
_MOST_DIGITS = 12
_MOST_BYTES_OF_A_CHARACTER = 8  # of one that has no encoding: its escape
_LONGEST_NAME = 1000


class Imported(NamedTuple):
    """The load had to import these modules of the image, in that order."""

    modules: tuple[str, ...]


class Loaded(NamedTuple):
    """The model is loaded, and took so long."""

    milliseconds: int


class Report(NamedTuple):
    """A line about the load, for the log."""

    text: str


class End(Enum):
    """The last event: the worker is about to end, and why."""

    CLOSED = b"C"  # the front end closed the connection
    LOAD_FAILED = b"F"
    LOAD_MEMORY = b"M"  # the load ran out of memory
    NO_MESSAGE = b"W"  # the front end sent what is no message
    REFUSED = b"R"  # one request was refused because the model is not there; try to load it again


Event = Union[Imported, Loaded, Report, End]


def encode(event: Event) -> bytes:
    """The packet of an event. What does not fit is left out: the last modules, names that parse() refuses, text."""
    if isinstance(event, End):
        return bytes(event.value)
    if isinstance(event, Loaded):
        return _LOADED + b"%d" % event.milliseconds
    if isinstance(event, Report):
        return _REPORT + event.text[: LONGEST_EVENT // _MOST_BYTES_OF_A_CHARACTER].encode(errors="backslashreplace")
    return _IMPORTED + b"\n".join(_fitting(event.modules))


def _fitting(modules: Iterable[str]) -> list[bytes]:
    names = [name.encode() for name in modules if is_module_name(name)]
    room = LONGEST_EVENT - len(_IMPORTED)
    for place, name in enumerate(names):
        room -= len(name) + 1
        if room < 0:
            return names[:place]
    return names


def parse(packet: bytes) -> Event:
    """The event of a packet.

    Raises:
        WireError: it is none.
    """
    kind, rest = packet[:1], packet[1:]
    if kind == _LOADED and rest.isdigit() and len(rest) <= _MOST_DIGITS:
        return Loaded(int(rest))
    if kind in (_IMPORTED, _REPORT):
        text = _text(rest)
        return Report(text) if kind == _REPORT else Imported(_module_names(text))
    try:
        return End(packet)
    except ValueError:
        raise WireError(f"{packet[:50]!r} is no event of a worker's") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"text that cannot be read: {error.reason}") from None


def _module_names(text: str) -> tuple[str, ...]:
    names = text.split("\n") if text else []
    for name in names:
        if not is_module_name(name):
            raise WireError(f"{name[:50]!r} is no name of a module")
    return tuple(names)


def is_module_name(name: str) -> bool:
    """Whether a text can be the full name of a module, and is of a length that one has."""
    return len(name) <= _LONGEST_NAME and all(part.isidentifier() for part in name.split("."))
