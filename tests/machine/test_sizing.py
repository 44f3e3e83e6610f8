# SPDX-License-Identifier: Apache-2.0
"""How large a server is made, and what it says of that."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_inference_lite.machine import limits
from sagemaker_inference_lite.machine.sizing import MOST_WORKERS, Size, Sizing, most_workers, sizing
from sagemaker_inference_lite.settings import Settings


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four CPUs, and 16 GiB."""
    monkeypatch.setattr(limits, "cpus", lambda: (4, "a test"))
    monkeypatch.setattr(limits, "memory_bytes", lambda: 16 << 30)


def sizes(environ: dict[str, str] | None = None, **fields: Any) -> Sizing:
    """The sizes for settings that differ from the default."""
    return sizing(Settings(**fields), environ or {})


@pytest.mark.parametrize(
    ("payload_mb", "memory_gib", "expected"),
    [
        (25, 16, (400, "16 x SAGEMAKER_MAX_PAYLOAD_IN_MB")),
        (6, 16, (256, "the usual")),
        (6, 0.75, (192, "a quarter of the memory")),
        (6, 0.5, (128, "the least")),
        (6, 0.25, (128, "the least")),
        (2047, 16, (4096, "a quarter of the memory")),
    ],
)
def test_heap(monkeypatch: pytest.MonkeyPatch, payload_mb: int, memory_gib: float, expected: tuple[int, str]) -> None:
    """It holds some of the largest requests, within a quarter of the container."""
    monkeypatch.setattr(limits, "memory_bytes", lambda: int(memory_gib * 2**30))
    assert sizes(max_payload_in_mb=payload_mb).heap_mib == expected


@pytest.mark.parametrize(("cpus", "loops"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8)])
def test_event_loops(monkeypatch: pytest.MonkeyPatch, cpus: int, loops: int) -> None:
    """They have half of the CPUs."""
    monkeypatch.setattr(limits, "cpus", lambda: (cpus, "a test"))
    assert sizes().event_loops == (loops, "CPUs / 2")


def test_workers() -> None:
    """As many as are asked for; else one per CPU, or one for each of several models."""
    assert sizes(model_server_workers=3).workers == (3, "SAGEMAKER_MODEL_SERVER_WORKERS")
    assert sizes().workers == (4, "one per CPU")
    assert sizes(multi_model=True).workers == (1, "several models")


def test_threads() -> None:
    """Each worker's share of the CPUs, at least one, unless OMP_NUM_THREADS says another number."""
    assert sizes(multi_model=True).threads == (4, "CPUs / workers")
    assert sizes(model_server_workers=3).threads == (1, "CPUs / workers")
    assert sizes(model_server_workers=9).threads == (1, "CPUs / workers")
    assert sizes({"OMP_NUM_THREADS": "2,1"}).threads == (2, "OMP_NUM_THREADS")


def test_they_are_said_with_their_reasons() -> None:
    """The line of the log has each number and where it comes from."""
    assert str(sizes(model_server_workers=2)) == (
        "workers per model: 2 (SAGEMAKER_MODEL_SERVER_WORKERS), threads per worker: 2 (CPUs / workers), "
        "CPUs: 4 (a test), event loops: 2 (CPUs / 2), heap: 400 (16 x SAGEMAKER_MAX_PAYLOAD_IN_MB) MiB"
    )


def test_another_number_of_workers_changes_their_threads() -> None:
    """The front end's own variable may overrule the number; threads follow."""
    changed = sizes().with_workers(Size(2, "another"), {})
    assert (changed.workers, changed.threads.value) == ((2, "another"), 2)


def test_workers_of_all_models() -> None:
    """Two open files each, beside those of everything else; never none, and bounded where files are not."""
    assert most_workers(1024) == 384
    assert most_workers(100) == 1
    assert most_workers(1 << 20) == most_workers(-1) == MOST_WORKERS
