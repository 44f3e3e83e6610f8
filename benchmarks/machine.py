# SPDX-License-Identifier: Apache-2.0
"""What a reader must know of the machine to make sense of figures; nothing that tells whose it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def facts() -> dict[str, str]:
    """Facts, each a name and a text."""
    return {
        "CPUs": f"{len(os.sched_getaffinity(0))} x {_processor()}",
        "memory": f"{_memory_bytes() / 2**30:.0f} GiB",
        "system": f"Linux {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": platform.python_version(),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def busy_cpus() -> float:
    """How many CPUs' worth of work this machine has had in the last minute."""
    return os.getloadavg()[0]
