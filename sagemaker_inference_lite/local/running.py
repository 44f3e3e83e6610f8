# SPDX-License-Identifier: Apache-2.0
"""Notes of the servers that run here for this user, by which a client finds one that took a port of its own choice."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_NAME = "sagemaker-inference-lite"
_LONGEST_NOTE = 1 << 20


class Running(NamedTuple):
    """A server that runs here.

    Attributes:
        url: Where it is asked.
        pid: The process that serves.
        several: Whether callers name the model that they mean.
        models: The names of the models that it was started with.
        started: When it began to serve, in seconds since 1970.
    """

    url: str
    pid: int
    several: bool
    models: tuple[str, ...]
    started: float


@contextmanager
def noted(environ: Mapping[str, str], running: Running) -> Iterator[None]:
    """Leave a note of a server while this is entered. Where none can be left, clients must be told where it is.

    The note is locked for as long as this process lives, so that one that was left behind can be told from a true one.
    """
    directory = _directory(environ, make=True)
    path = None if directory is None else directory / f"{running.pid}.json"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if path is not None:
                stack.callback(_unlink, path)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(descriptor, json.dumps(running._asdict()).encode())
        yield


def running_here(environ: Mapping[str, str]) -> list[Running]:
    """The servers of this user's that run here, the one started last at the end."""
    directory = _directory(environ, make=False)
    found = [_read(path) for path in directory.glob("*.json")] if directory is not None else []
    return sorted((each for each in found if each is not None), key=lambda each: each.started)


def _read(path: Path) -> Running | None:
    """What a note says; None where the process that left it is gone, and then the note is too."""
    try:
        with path.open("rb") as file:
            if not _is_locked(file.fileno()):
                _unlink(path)
                return None
            return _parsed(json.loads(file.read(_LONGEST_NOTE)))
    except (OSError, ValueError):
        return None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _parsed(content: Any) -> Running | None:
    try:
        return Running(
            str(content["url"]),
            int(content["pid"]),
            bool(content["several"]),
            tuple(map(str, content["models"])),
            float(content["started"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _directory(environ: Mapping[str, str], make: bool) -> Path | None:
    """Where the notes are: a directory that only this user can write to; None where there is none."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    directory = Path(runtime, _NAME) if runtime else Path(tempfile.gettempdir(), f"{_NAME}-{os.getuid()}")
    try:
        if make:
            directory.mkdir(mode=0o700, exist_ok=True)
        state = directory.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o022
    return directory if is_ours else None


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
