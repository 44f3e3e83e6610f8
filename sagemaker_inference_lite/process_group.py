# SPDX-License-Identifier: Apache-2.0
"""Ending a process together with what it started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def kill_leader(pid: int) -> None:
    """Kill a child that has not been reaped, also one that has left its group, and the group that it leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    kill_group(pid)


def kill_group(group: int) -> None:
    """Kill all processes of a process group; nothing happens where there are none."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
