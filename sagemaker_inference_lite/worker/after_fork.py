# SPDX-License-Identifier: Apache-2.0
"""What a fork shares by mistake, undone in the child."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

# Found before the fork: to look for it takes 300 KB of memory of the child's own.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)
_PR_SET_PDEATHSIG = 1

# Of two processes of one container the kernel is to pick the worker, which is replaced, not Java or the zygote,
# whose end is the container's. Raising one's own score needs no privilege (proc_pid_oom_score_adj(5)).
_OOM_SCORE_ADJ = "500"


def become_worker(parent: int, stdout: int, stderr: int) -> None:
    """Make the process that fork() has just made one of its own.

    Args:
        parent: The pid of the process that forked.
        stdout: Becomes file descriptor 1.
        stderr: Becomes file descriptor 2.
    """
    os.setpgid(0, 0)
    die_with_parent(parent)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for stream in (sys.stdout, sys.stderr):
        # Into a pipe Python would hold text back until 8 KiB have gathered.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE_ADJ)
    reseed()


def prctl(option: int, argument: int) -> bool:
    """Change how the kernel treats this process (Linux); whether that was possible."""
    return _PRCTL is not None and _PRCTL(option, argument, 0, 0, 0) == 0


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that made it ends (Linux; elsewhere nothing happens)."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def reseed() -> None:
    """Give the global random generators states of their own; the standard library does it for ``random`` itself.

    Generators that a module makes for itself at import (``numpy.random.default_rng()``) are out of reach: two
    workers that share one by fork draw the same numbers from it.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        # Without an argument numpy makes a SeedSequence, which costs each worker 0.3 MB of pages.
        numpy_random.seed(int.from_bytes(os.urandom(4), "little"))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "seed"):
        torch.seed()
