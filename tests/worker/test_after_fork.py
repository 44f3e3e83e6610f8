# SPDX-License-Identifier: Apache-2.0
"""What a worker does not share with the process that it was forked from."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sagemaker_inference_lite.worker.after_fork import reseed

PROGRAM = Path(__file__).resolve().parents[1] / "programs" / "forks_workers.py"
SECONDS = 20


def output_of(verb: str) -> str:
    """What the program prints."""
    argv = [sys.executable, str(PROGRAM), verb]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS).stdout


def test_workers_draw_numbers_of_their_own() -> None:
    """Neither Python's nor numpy's global generator gives two workers, or their parent, the same numbers."""
    draws: list[list[float]] = json.loads(output_of("random_numbers"))
    assert len(draws) == 4
    for numbers in zip(*draws):
        assert len(set(numbers)) == len(draws)


def test_a_worker_is_a_process_of_its_own() -> None:
    """It leads a process group, has no handlers for signals, and is the one that the kernel kills for memory."""
    group, handlers, wakeup, score = json.loads(output_of("state_of_a_worker"))
    assert group is True
    assert handlers == [True] * 4
    assert wakeup == -1
    assert score == 1000


def test_lines_are_printed_at_once() -> None:
    """A line that a worker prints into a pipe is there although nothing was flushed."""
    assert output_of("lines_at_once") == "on stdout\n"


def test_a_worker_dies_with_its_parent() -> None:
    """A parent that is killed takes its workers along."""
    with subprocess.Popen([sys.executable, str(PROGRAM), "be_killed"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        assert parent.stdout.read() == b""  # the end of the last process that holds the pipe


def test_a_worker_whose_parent_is_gone_already() -> None:
    """A worker that asks too late to die with its parent ends at once."""
    assert output_of("orphan") == ""


def test_reseed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's generators get states of their own where it is imported; what is not imported stays so."""
    seeded: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(seed=lambda: seeded.append(1)))
    np.random.seed(1)
    first = np.random.rand()
    np.random.seed(1)
    reseed()
    assert np.random.rand() != first
    assert seeded == [1]


@pytest.mark.parametrize("torch", [None, SimpleNamespace()])
def test_reseed_without_torch(monkeypatch: pytest.MonkeyPatch, torch: Any) -> None:
    """Without torch, or with a module of that name that is none, nothing happens to it."""
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.delitem(sys.modules, "numpy.random")
    state = random.getstate()
    reseed()
    assert random.getstate() == state
    assert "numpy.random" not in sys.modules
