# SPDX-License-Identifier: Apache-2.0
"""What this process may use of the machine: CPUs and memory, as affinity masks and control groups allow.

A container sees all of its host's CPUs and memory in /proc; what it may use stands in its control group.
Both versions of control groups are read at the place where a container sees its own group mounted.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cpu_count(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use, at least 1: the affinity mask, or the group's quota where that is less."""
    return cpus(cgroup)[0]


def cpus(cgroup: Path = CGROUP) -> tuple[int, str]:
    """What cpu_count() says, and which of the two it is."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(cgroup)
    # A quota of 1.5 CPUs is worth two threads: rounding down would leave a third of it unused.
    if quota and math.ceil(quota) < usable:
        return max(1, math.ceil(quota)), "the control group's quota"
    return usable, "those that may be used"


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that this process may use: the group's limit, or all of the machine's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_number(cgroup / "memory.max"), _number(cgroup / "memory" / "memory.limit_in_bytes"))
    return min([total, *(limit for limit in limits if limit)])


def _cpu_quota(cgroup: Path) -> float | None:
    words = (_text(cgroup / "cpu.max") or "max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota = _number(cgroup / "cpu" / "cpu.cfs_quota_us")
    period = _number(cgroup / "cpu" / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
