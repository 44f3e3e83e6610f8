# SPDX-License-Identifier: Apache-2.0
"""What a line of the log looks like, and which request it belongs to.

Every record that is made while a model handles a request carries that request, whoever makes it and however the
handler's author has set up logging. The names are prefixed because a record refuses an attribute that is also in
``extra``, and handlers pass ``extra={"request_id": ...}``.

This library's own loggers cannot be disabled: ``logging.config`` disables whatever is there unless it is told not to,
and an author who sets up a log must still learn in it why requests fail. Nor do they raise what an author's handlers
and filters raise.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
from contextlib import suppress
from typing import Any, Protocol

from sagemaker_inference_lite.runtime.printable import named, on_lines, text_of
from sagemaker_inference_lite.runtime.standard_streams import duplicate

_OURS = __name__.partition(".")[0]

FORMAT = "%(asctime)s [%(levelname)s] %(name)s - %(message)s"
FORMAT_IN_REQUEST = "%(asctime)s [%(levelname)s] %(name)s [%(sagemaker_request_id)s] - %(message)s"

# Characters of one record. CloudWatch cuts an event at 256 KiB.
_LONGEST_RECORD = 1 << 18


class Call(Protocol):
    """What is known of the call under way: a context."""

    request_ids: dict[int, str] | None

    @property
    def inference_id(self) -> str | None:
        """The caller's own id of the request."""


_model = ""
_call: Call | None = None
_known = 0
_own_handler: LineHandler | None = None


def belong_to_model(name: str) -> None:
    """Has all further records of this process carry a model's name."""
    global _model
    _model = name


def belong_to(call: Call | None) -> None:
    """Has the records that are made from now on carry a call; with None they carry no request any more.

    It holds for the whole process, and so for the threads that a handler starts: a worker handles one call at a time.
    """
    global _call
    _call = call


def install() -> None:
    """Has every record of this process carry ``sagemaker_model``, ``sagemaker_request_id``, ``sagemaker_inference_id``.

    Each is text, and empty where there is none, so that any format may name it.
    """
    make = logging.getLogRecordFactory()

    def factory(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*arguments, **keywords)
        call = _call
        record.sagemaker_model = _model
        record.sagemaker_request_id = ", ".join((call.request_ids or {}).values()) if call else ""
        record.sagemaker_inference_id = (call.inference_id if call else None) or ""
        return record

    logging.setLogRecordFactory(factory)
    keep_ours_enabled()


class _Enabled(logging.Logger):
    """A logger that is never disabled, and never raises. Its level and its handlers are the author's to choose."""

    def handle(self, record: logging.LogRecord) -> None:
        try:
            super().handle(record)
        except Exception:  # one who logs to a stream that refuses to be written to, as stderr then does too
            if _own_handler is not None:
                _own_handler.handle(record)

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


def keep_ours_enabled() -> None:
    """To be called again when more of this library may have been imported; before a fork, for all workers."""
    global _known
    loggers = logging.root.manager.loggerDict
    # The new ones are the last, and to look at the others would cost every worker a copy of their pages.
    for name in list(itertools.islice(reversed(loggers), max(0, len(loggers) - _known))):
        logger = loggers[name]
        if name.partition(".")[0] == _OURS and type(logger) is logging.Logger:
            logger.__class__ = _Enabled
    _known = len(loggers)


class Formatter(logging.Formatter):
    """A line with the request's id before the message, if it belongs to a request and does not name it itself."""

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._in_request = logging.Formatter(FORMAT_IN_REQUEST)

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        belongs = getattr(record, "sagemaker_request_id", "")
        if belongs and belongs not in record.getMessage():
            return self._in_request.format(record)
        return super().format(record)


class LineHandler(logging.Handler):
    """Writes records to a file descriptor as lines of UTF-8, and never fails, whatever is in a record.

    Control characters are shown as escapes, as are halves of surrogate pairs; line feeds and tabs stay. Of a record of
    more than 262,144 characters the middle is left out, because the end of a traceback says most. Where a record cannot
    be formatted, what can be had of it is written. Where nothing can be written, the record is lost.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.setFormatter(Formatter())

    def continue_at(self, descriptor: int) -> None:
        """Write to where this descriptor leads, from now on."""
        os.dup2(descriptor, self._descriptor, inheritable=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        with suppress(Exception):
            data = _shortened(on_lines(self._text_of(record))).encode(errors="backslashreplace") + b"\n"
            while data:
                data = data[os.write(self._descriptor, data) :]

    def _text_of(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # arguments that do not fit the message, or whose text cannot be had
            return Formatter().format(_what_can_be_had(record, error))


def own_handler(descriptor: int) -> LineHandler:
    """A handler that writes where the descriptor leads now, whatever becomes of that one and of sys.stdout.

    A process has one. It writes to a duplicate, which `continue_at` moves.
    """
    global _own_handler
    _own_handler = LineHandler(duplicate(descriptor))
    return _own_handler


def continue_at(descriptor: int) -> None:
    """Has the records of `own_handler`, if there is one, go where this descriptor leads."""
    if _own_handler is not None:
        _own_handler.continue_at(descriptor)


def _what_can_be_had(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    plain = copy.copy(record)
    plain.msg = f"{text_of(record.msg)} (this record cannot be formatted: {named(error)})"
    cause = record.exc_info[1] if record.exc_info else None
    if cause is not None:
        plain.msg += f": {named(cause)}"
    plain.args = plain.exc_info = plain.exc_text = plain.stack_info = None
    return plain


def _shortened(text: str) -> str:
    missing = len(text) - _LONGEST_RECORD
    if missing <= 0:
        return text
    half = _LONGEST_RECORD // 2
    return f"{text[:half]}\n... {missing} characters are left out ...\n{text[-half:]}"
