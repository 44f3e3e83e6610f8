# SPDX-License-Identifier: Apache-2.0
"""Processes: what the end of one means, ending one with what it started, and those that nobody else reaps."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress

_PR_SET_CHILD_SUBREAPER = 36
# Found before any fork: to look for it takes 300 KB of memory of the child's own.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)

_MARKED = 1 << 62
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT of Linux


def describe(returncode: int) -> str:
    """A clause for ``subprocess.Popen.returncode``, such as "was killed by SIGKILL: most likely out of memory"."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    name = signal_name(-returncode)
    if returncode == -signal.SIGKILL:
        return f"was killed by {name}: most likely the container ran out of memory"
    return f"was ended by {name}"


def exit_code(returncode: int) -> int:
    """The exit status that passes a process's end on: its own, or 128 + the signal, as a shell does it."""
    return returncode if returncode >= 0 else 128 - returncode


def signal_name(number: int) -> str:
    """The name of a signal, or its number where it has none, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kill_leader(pid: int) -> None:
    """Kill a child that has not been reaped, also one that has left its group, and the group that it leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    kill_group(pid)


def kill_group(group: int) -> None:
    """Kill all processes of a process group; nothing happens where there are none."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def prctl(option: int, argument: int) -> bool:
    """Change how the kernel treats this process (Linux); whether that was possible."""
    return _PRCTL is not None and _PRCTL(option, argument, 0, 0, 0) == 0


def adopt_orphans(adopts: bool = True) -> bool:
    """Has this process become the parent of what its children leave behind, or no longer (Linux); whether it could."""
    return prctl(_PR_SET_CHILD_SUBREAPER, adopts)


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of what descendants leave behind, while the block runs."""
    adopt_orphans()
    try:
        yield
    finally:
        adopt_orphans(False)


def mark() -> None:
    """Mark this process, and all that it starts from now on, as this process's."""
    with suppress(OSError, ValueError):  # a sandbox that has no such limit, or a lower one that is fixed
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        resource.setrlimit(resource.RLIMIT_RTTIME, (_MARKED + os.getpid(), hard))


def kill_orphans(known: Container[int], living: Container[int]) -> list[int]:
    """Kill those of this process's children that a marked process has left behind; they still have to be reaped.

    Args:
        known: Children that are left alone.
        living: Marked processes that have not ended: what they have left behind so far is theirs.

    Returns:
        The pids of those that were killed.
    """
    killed = []
    for pid in _children():
        if pid not in known:
            marked = _marked_by(pid)
            if marked is not None and marked not in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
    return killed


def end_orphans() -> None:
    """Kill and reap whatever marked processes have left behind here, and what that leaves behind in turn."""
    while killed := kill_orphans((), ()):
        for pid in killed:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """The main thread's, which is who adopts; none where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return list(map(int, file.read().split()))
    except OSError:
        return []


def _marked_by(pid: int) -> int | None:
    try:
        soft, _ = resource.prlimit(pid, resource.RLIMIT_RTTIME)
    except OSError:  # it has ended, or runs as somebody else
        return None
    return soft - _MARKED if 0 < soft - _MARKED <= _MOST_PIDS else None
