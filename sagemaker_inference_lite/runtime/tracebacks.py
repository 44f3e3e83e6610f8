# SPDX-License-Identifier: Apache-2.0
"""Tracebacks as the author of a handler or a model reads them: their own frames, without those that led there."""

from __future__ import annotations

import importlib
import os
import traceback
from types import TracebackType
from typing import Optional, Union

from sagemaker_inference_lite.errors import InferenceLiteError
from sagemaker_inference_lite.runtime.printable import named
from sagemaker_inference_lite.runtime.printable import text_of as printable_text

ExcInfo = Union[tuple[type[BaseException], BaseException, Optional[TracebackType]], None]

# Where frames lie that lead to the author's code: this package, and what imports it.
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_IMPORTERS = (os.path.join(os.path.dirname(importlib.__file__), ""), "<frozen importlib")


def cause_of(error: BaseException) -> BaseException:
    """What an error was raised for that this library raised by itself; any other error as it is."""
    while isinstance(error, InferenceLiteError) and error.__cause__ is not None and _author_s(error) is None:
        error = error.__cause__
    return error


def exc_info(error: BaseException) -> ExcInfo:
    """What to give to logging of an error, so that its traceback begins where the author's code does.

    Returns:
        The cause with the part of its traceback that is of interest: from the first frame on that is not of this
        library's, and all of it where there is no such frame. None where a sentence of this library's says everything.
    """
    cause = cause_of(error)
    first = _author_s(cause)
    if first is None and not isinstance(cause, SyntaxError):  # which has no frame where it is, and says so itself
        if isinstance(cause, InferenceLiteError):
            return None
        first = cause.__traceback__
    return type(cause), cause, first


def text_of(error: BaseException) -> str:
    """The same as Python prints it; "" where exc_info() has nothing."""
    info = exc_info(error)
    try:
        return "" if info is None else "".join(traceback.format_exception(*info))
    except Exception:  # an error may be broken itself
        return named(error)


def sentence_of(error: BaseException) -> str:
    """What happened and where: the message of an error of this library's; of any other its type, text and place."""
    if isinstance(error, InferenceLiteError):
        return printable_text(error)
    place = place_of(error)
    return named(error) + (f" ({place})" if place and not isinstance(error, SyntaxError) else "")


def place_of(error: BaseException) -> str:
    """Where the author's code raised it, such as "/m/code/inference.py, line 3"; "" where that is nowhere.

    A SyntaxError is where its text is. Of frames it is the last one of a file in a directory that holds neither this
    library nor an installed package.
    """
    cause = cause_of(error)
    if isinstance(cause, SyntaxError) and cause.filename and cause.lineno:
        return f"{cause.filename}, line {cause.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(cause.__traceback__)
        if not (_leads_there(frame.filename) or _is_installed(frame.filename))
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _author_s(error: BaseException) -> TracebackType | None:
    """The part of a traceback that begins with the first frame that is not of this library's; None without any."""
    found = error.__traceback__
    while found is not None and _leads_there(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _leads_there(file: str) -> bool:
    return file.startswith((_PACKAGE, *_IMPORTERS))


def _is_installed(file: str) -> bool:
    return "site-packages" in file or file.startswith(("<", os.path.join(os.path.dirname(os.__file__), "")))
