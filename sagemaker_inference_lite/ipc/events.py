# SPDX-License-Identifier: Apache-2.0
"""What a worker tells the zygote: typed messages, each one packet of a socket of its own (SOCK_SEQPACKET).

A socket, because any exit status may be a handler's. The model can write to it as well as the worker, so whatever
comes is checked as an attacker's: parse() raises WireError, and nothing else, at what is no event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Union

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.runtime.printable import on_lines, on_one_line

# The names of a few thousand modules. What is longer is no event.
LONGEST_EVENT = 100_000

_IMPORTED = b"I"
_LOADED = b"L"
_REPORT = b"P"
_FAILURE = b"E"
_DESCRIPTION = b"D"
_MOST_DIGITS = 12
_MOST_BYTES_OF_A_CHARACTER = 8  # of one that has no encoding: its escape
_LONGEST_NAME = 1000

# What is kept of a failed load's sentence, from its beginning, and of its traceback, from its end.
LONGEST_SENTENCE = 2000
LONGEST_TRACE = 10_000

# Characters of each text of a description.
LONGEST_DESCRIPTION = 4000


class Imported(NamedTuple):
    """The load had to import these modules of the image, in that order."""

    modules: tuple[str, ...]


class Loaded(NamedTuple):
    """The model is loaded, and took so long."""

    milliseconds: int


class Report(NamedTuple):
    """A line about the load, for the log."""

    text: str


class LoadFailure(NamedTuple):
    """The load failed, and why. LOAD_FAILED or LOAD_MEMORY follows.

    Attributes:
        error_id: Under which the log has the traceback; 32 hexadecimal digits.
        sentence: For whoever wanted the model, on one line.
        is_final: Another try would fail as this one has.
        trace: The traceback; empty unless callers may see it.
    """

    error_id: str
    sentence: str
    is_final: bool = False
    trace: str = ""


class Description(NamedTuple):
    """What the model is, and a request that fits it (frameworks/examples.py); texts that are empty say nothing."""

    description: str
    takes: str
    content_type: str
    example: str


class End(Enum):
    """The last event: the worker is about to end, and why."""

    CLOSED = b"C"  # the front end closed the connection
    LOAD_FAILED = b"F"
    LOAD_MEMORY = b"M"  # the load ran out of memory
    NO_MESSAGE = b"W"  # the front end sent what is no message
    REFUSED = b"R"  # one request was refused because the model is not there; try to load it again


Event = Union[Imported, Loaded, Report, LoadFailure, Description, End]

_LOAD_FAILURE = re.compile(r"([0-9a-f]{32})([+-])([^\n]*)\n(.*)", re.DOTALL)


def encode(event: Event) -> bytes:
    """The packet of an event. What does not fit is left out: the last modules, names that parse() refuses, text."""
    if isinstance(event, End):
        return bytes(event.value)
    if isinstance(event, Loaded):
        return _LOADED + b"%d" % event.milliseconds
    if isinstance(event, Report):
        return _REPORT + event.text[: LONGEST_EVENT // _MOST_BYTES_OF_A_CHARACTER].encode(errors="backslashreplace")
    if isinstance(event, LoadFailure):
        sentence = _shortened(event.sentence, LONGEST_SENTENCE).replace("\n", " ")
        text = f"{event.error_id}{'-' if event.is_final else '+'}{sentence}\n{event.trace[-LONGEST_TRACE:]}"
        return _FAILURE + text.encode(errors="backslashreplace")
    if isinstance(event, Description):
        return _DESCRIPTION + json.dumps([text[:LONGEST_DESCRIPTION] for text in event]).encode("ascii")
    return _IMPORTED + b"\n".join(_fitting(event.modules))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


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
    if kind in (_IMPORTED, _REPORT, _FAILURE, _DESCRIPTION):
        text = _text(rest)
        if kind == _DESCRIPTION:
            return _description(text)
        if kind == _FAILURE:
            return _load_failure(text)
        return Report(text) if kind == _REPORT else Imported(_module_names(text))
    try:
        return End(packet)
    except ValueError:
        raise WireError(f"{packet[:50]!r} is not an event of a worker's") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"text that cannot be read: {error.reason}") from None


def _description(text: str) -> Description:
    try:
        texts = json.loads(text)
    except (ValueError, RecursionError):
        texts = None
    if not isinstance(texts, list) or len(texts) != 4 or not all(isinstance(each, str) for each in texts):
        raise WireError(f"{text[:50]!r} is not a description of a model")
    return Description(*(on_lines(each[:LONGEST_DESCRIPTION]) for each in texts))


def _load_failure(text: str) -> LoadFailure:
    found = _LOAD_FAILURE.fullmatch(text)
    if found is None:
        raise WireError(f"{text[:50]!r} is not a failure of a load")
    error_id, mark, sentence, trace = found.groups()
    return LoadFailure(error_id, _shortened(on_one_line(sentence), LONGEST_SENTENCE), mark == "-", on_lines(trace))


def _module_names(text: str) -> tuple[str, ...]:
    names = text.split("\n") if text else []
    for name in names:
        if not is_module_name(name):
            raise WireError(f"{name[:50]!r} is not the name of a module")
    return tuple(names)


def is_module_name(name: str) -> bool:
    """Whether a text can be the full name of a module, and is of a length that one has."""
    return len(name) <= _LONGEST_NAME and all(part.isidentifier() for part in name.split("."))
