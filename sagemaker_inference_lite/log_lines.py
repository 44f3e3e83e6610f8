# SPDX-License-Identifier: Apache-2.0
"""What a line of the log looks like, and which request it belongs to.

Every record that is made while a model handles a request carries that request, whoever makes it and however the
handler's author has set up logging. The names are prefixed because a record refuses an attribute that is also in
``extra``, and handlers pass ``extra={"request_id": ...}``.

This library's own loggers cannot be disabled: ``logging.config`` disables whatever is there unless it is told not to,
and an author who sets up a log must still learn in it why requests fail.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any, Protocol

_OURS = __name__.partition(".")[0]

FORMAT = "%(asctime)s [%(levelname)s] %(name)s - %(message)s"
FORMAT_IN_REQUEST = "%(asctime)s [%(levelname)s] %(name)s [%(sagemaker_request_id)s] - %(message)s"


class Call(Protocol):
    """What is known of the call under way: a context."""

    request_ids: dict[int, str] | None

    @property
    def inference_id(self) -> str | None:
        """The caller's own id of the request."""


_model = ""
_call: Call | None = None
_known = 0


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
    """A logger that is never disabled. Its level and its handlers are the author's to choose."""

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
    for name in list(itertools.islice(reversed(loggers), len(loggers) - _known)):
        logger = loggers[name]
        if name.partition(".")[0] == _OURS and type(logger) is logging.Logger:
            logger.__class__ = _Enabled
    _known = len(loggers)


class Formatter(logging.Formatter):
    """A line with the request's id before the message, if it belongs to a request."""

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._in_request = logging.Formatter(FORMAT_IN_REQUEST)

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        belongs = getattr(record, "sagemaker_request_id", "")
        return self._in_request.format(record) if belongs else super().format(record)
