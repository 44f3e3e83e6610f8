# SPDX-License-Identifier: Apache-2.0
"""stdout and stderr as they may be: closed, replaced by anything, unable to encode. Nothing here raises for that."""

from __future__ import annotations

import fcntl
import io
import os
import sys
from contextlib import suppress
from typing import Any

_LAST = 2


def occupy() -> None:
    """Open /dev/null for those of the descriptors 0, 1 and 2 that are closed.

    The next file or socket that is opened gets the lowest number that is free, and what is printed must not reach it.
    """
    with suppress(OSError):  # no number is free, so none of these is
        descriptor = os.open(os.devnull, os.O_RDWR)
        while descriptor <= _LAST:
            os.set_inheritable(descriptor, True)
            descriptor = os.open(os.devnull, os.O_RDWR)
        os.close(descriptor)


def duplicate(descriptor: int) -> int:
    """Another descriptor that leads to the same, and none of 0, 1 and 2. Programs that are started do not get it."""
    other: int = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST + 1)
    return other


def set_up() -> None:
    """Have lines written as they end, and a character that cannot be encoded cost no more than itself.

    Into a pipe Python would hold text back until 8 KiB have gathered. Streams that are not Python's own are left alone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(Exception):  # it is closed, or its own class says no
                strict = stream.errors in ("strict", "surrogateescape")
                stream.reconfigure(line_buffering=True, errors="backslashreplace" if strict else stream.errors)


def flush() -> None:
    """Write what the streams hold back, as far as they can: those that are in place, and those that Python made."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        _flush(stream)


def _flush(stream: Any) -> None:
    with suppress(Exception, SystemExit):  # None, closed, or whatever a handler has put there
        stream.flush()
