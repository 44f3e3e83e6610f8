# SPDX-License-Identifier: Apache-2.0
"""A process that speaks for a model, and the processes that the model's code forks from it, which never do.

What a handler forks returns, like the handler itself, into the code that answers requests. There it must end: the
request is its parent's to answer, once (gunicorn#2820). So who serves a model claims that for its own process. A fork
of Python's (os.fork, multiprocessing) then closes in the child whatever the parent speaks through; a fork made behind
Python's back is found out by memory that the kernel wipes in it. Each ends where its handler does, as a program of its
own would end there.
"""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from sagemaker_inference_lite.runtime import standard_streams


class Closeable(Protocol):
    """What a child must not keep: a socket, a page, a file."""

    def close(self) -> None:
        """Let go of it, in this process only."""


# linux/mman.h, since Linux 4.14. To look at a byte takes a tenth of the time that os.getpid() does.
_MADV_WIPEONFORK = 18

# Begins with 1 in the process that has claimed, and where none has; with 0 in what was forked from there.
_here: Sequence[int] = b"\1"
_owned: Sequence[Closeable] = ()
_is_registered = False


def claim(owned: Sequence[Closeable]) -> None:
    """Make this process the only one that may go on after its model's code.

    Args:
        owned: Closed in every child that Python forks.
    """
    global _here, _owned, _is_registered
    _here, _owned = _wiped_on_fork(), owned
    if not _is_registered:  # nothing undoes it, and children inherit it
        os.register_at_fork(after_in_child=_close_owned)
        _is_registered = True


def _wiped_on_fork() -> Sequence[int]:
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # an older kernel, or a sandbox: then forks of Python's are found out, and no others
        page.madvise(_MADV_WIPEONFORK)
    page[0] = 1
    return memoryview(page)


def release() -> None:
    """Undo claim(): what this process forks from now on is its own affair."""
    global _here, _owned
    _here, _owned = b"\1", ()


def end_if_forked(error: BaseException | None = None) -> None:
    """Return in the process that has claimed, and where none has; in any other the model's code has forked it: end.

    Args:
        error: What its code raised. It decides the exit status, as at the end of a program.
    """
    if not _here[0]:
        _end(error)


def _close_owned() -> None:
    global _here
    if _owned:
        _here = b"\0"
    for each in _owned:
        with suppress(Exception):
            each.close()


def _end(error: BaseException | None) -> NoReturn:
    status = 1
    try:
        status = _status(error)
        run_exit_functions()
    finally:
        os._exit(status)


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    with suppress(Exception):  # a handler may have put anything there, or nothing
        sys.stderr.write(f"{error.code}\n")
    return 1


def run_exit_functions() -> None:
    """What the end of the interpreter would do, but for waiting for threads, and for unwinding."""
    logging.raiseExceptions = False  # what stands for stderr may refuse to be flushed
    try:
        # Pools of processes (concurrent.futures, joblib) end theirs here; atexit waits for them without having asked.
        for function in reversed(getattr(threading, "_threading_atexits", ())):
            function()
        atexit._run_exitfuncs()
        logging.shutdown()
    finally:
        standard_streams.flush()
