# SPDX-License-Identifier: Apache-2.0
"""What the end of a process means, in words and as an exit status."""

from __future__ import annotations

import signal


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
