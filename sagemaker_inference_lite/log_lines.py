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
import re
from typing import Any, Protocol

_OURS = __name__.partition(".")[0]

FORMAT = "%(asctime)s [%(levelname)s] %(name)s - %(message)s"
FORMAT_IN_REQUEST = "%(asctime)s [%(levelname)s] %(name)s [%(sagemaker_request_id)s] - %(message)s"

# Control characters but tab and line feed, what else ends a line somewhere (Unicode, UAX 14), and halves of pairs.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Call(Protocol):
    """What is known of the call under way: a context."""

    request_ids: dict[int, str] | None

    @property
    def inference_id(self) -> str | None:
        """The caller's own id of the request."""


_model = ""
_call: Call | None = None
_known = 0


def visible(text: str) -> str:
    """The text with escapes in place of what a client may have put into it to change how a log looks.

    Line feeds stay: a text of several lines is for its reader to tell apart.
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def on_one_line(text: str) -> str:
    """The text as `visible` has it, and on one line."""
    return visible(text).replace("\n", "\\n")


def belong_to_model(name: str) -> None:
    """Has all further records of this process carry a model's name."""
    global _model
    _model = name
    _keep_ours_enabled()  # those among them that have come since install()


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
    _keep_ours_enabled()


class _Enabled(logging.Logger):
    """A logger that is never disabled. Its level and its handlers are the author's to choose."""

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


def _keep_ours_enabled() -> None:
    global _known
    loggers = logging.root.manager.loggerDict
    # The new ones are the last, and to look at the others would cost every worker a copy of their pages.
    for name in list(itertools.islice(reversed(loggers), len(loggers) - _known)):
        logger = loggers[name]
        if name.partition(".")[0] == _OURS and type(logger) is logging.Logger:
            logger.__class__ = _Enabled
    _known = len(loggers)


class _Visible(logging.Formatter):
    """Tracebacks as `visible` has them: an error often quotes what a client has sent."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return visible(super().formatException(ei))


class Formatter(_Visible):
    """A line with the request's id before the message, if it belongs to a request."""

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._in_request = _Visible(FORMAT_IN_REQUEST)

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        belongs = getattr(record, "sagemaker_request_id", "")
        return self._in_request.format(record) if belongs else super().format(record)
