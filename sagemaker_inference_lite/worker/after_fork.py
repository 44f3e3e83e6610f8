# SPDX-License-Identifier: Apache-2.0
"""What a fork shares by mistake, undone in the child."""

from __future__ import annotations

import os
import signal
import sys

from sagemaker_inference_lite.runtime import logs, processes, standard_streams
from sagemaker_inference_lite.worker.oom_score import OomScore

_PR_SET_PDEATHSIG = 1


def become_worker(parent: int, stdout: int, stderr: int) -> OomScore:
    """Make the process that fork() has just made one of its own.

    Args:
        parent: The pid of the process that forked.
        stdout: Becomes file descriptor 1, and where the log goes.
        stderr: Becomes file descriptor 2.

    Returns:
        Its score.
    """
    os.setpgid(0, 0)
    die_with_parent(parent)
    processes.mark()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    standard_streams.set_up()  # those of the parent, or what a handler has put in their place
    logs.continue_at(stdout)
    reseed()
    return OomScore()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that made it ends (Linux; elsewhere nothing happens)."""
    processes.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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
