# SPDX-License-Identifier: Apache-2.0
"""What the process may use of the machine, by affinity mask and control group."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_inference_lite.machine.limits import cpu_count, memory_bytes

MIB = 1 << 20
ALL_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
USABLE = cpu_count(Path("/nowhere"))


def version_2(directory: Path, **files: str) -> Path:
    """A group of version 2: cpu.max and memory.max."""
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text + "\n")
    return directory


def version_1(directory: Path, quota: str, period: str) -> Path:
    """A group of version 1 with a quota of CPU time."""
    (directory / "cpu").mkdir()
    (directory / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (directory / "cpu" / "cpu.cfs_period_us").write_text(period + "\n")
    return directory


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("150000 100000", min(2, USABLE)),
        ("200000 100000", min(2, USABLE)),
        ("100000000 100000", USABLE),
        ("max 100000", USABLE),
        ("max", USABLE),
        ("", USABLE),
        ("nonsense", USABLE),
    ],
)
def test_cpus_of_version_2(tmp_path: Path, cpu_max: str, expected: int) -> None:
    """A quota counts in whole CPUs, rounded up; without one the affinity mask decides."""
    assert cpu_count(version_2(tmp_path, cpu_max=cpu_max)) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("100000", "100000", 1), ("150000", "100000", min(2, USABLE)), ("-1", "100000", USABLE), ("50000", "", USABLE)],
)
def test_cpus_of_version_1(tmp_path: Path, quota: str, period: str, expected: int) -> None:
    """The same where quota and period are in files of their own; -1 is no quota."""
    assert cpu_count(version_1(tmp_path, quota, period)) == expected


def test_cpus_without_a_group(tmp_path: Path) -> None:
    """Without a control group the affinity mask decides."""
    assert cpu_count(tmp_path) == len(os.sched_getaffinity(0))


def test_affinity_mask() -> None:
    """A process that is held to one CPU may use one, however many there are."""
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from sagemaker_inference_lite.machine import limits; print(limits.cpu_count())"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout == b"1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(str(64 * MIB), 64 * MIB), ("max", ALL_MEMORY), ("", ALL_MEMORY), ("9223372036854771712", ALL_MEMORY)],
)
@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory(tmp_path: Path, file: str, text: str, expected: int) -> None:
    """The group's limit counts where it is less than the machine's memory, in both versions."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text + "\n")
    assert memory_bytes(tmp_path) == expected


def test_memory_without_a_group(tmp_path: Path) -> None:
    """Without a control group all of the machine's memory may be used."""
    assert memory_bytes(tmp_path) == ALL_MEMORY


def test_this_machine() -> None:
    """On the machine as it is, both numbers make sense."""
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
    assert 0 < memory_bytes() <= ALL_MEMORY
