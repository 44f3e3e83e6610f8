# SPDX-License-Identifier: Apache-2.0
"""What is done once before workers are forked: in a process of its own, which it changes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import gc, json, logging, sys, types
from sagemaker_inference_lite.runtime import logs
from sagemaker_inference_lite.zygote.before_fork import prepare_to_fork

# What imports leave behind: blocks in use, and holes between them.
blocks = [[bytes(size - 33) for _ in range(20_000)] for size in range(48, 512, 64)]
blocks = [[block for place, block in enumerate(each) if place % 50] for each in blocks]
said = []

def pages(size):
    return len({{id(each) // 4096 for each in [bytes(size - 33) for _ in range(300)]}})

{body}
"""


def run(body: str) -> Any:
    """What the program prints, as JSON."""
    program = PROGRAM.format(body=body)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("size", [48, 112, 304, 496])
def test_what_a_worker_allocates_is_close_together(size: int) -> None:
    """New blocks come from one page after the other, where before they came from the holes of many."""
    before, after = run(f"before = pages({size}); prepare_to_fork(); print(json.dumps([before, pages({size})]))")
    dense = 300 * size / 4096
    assert after <= 1.5 * dense + 3
    assert before > after


def test_a_second_time_takes_no_more_memory() -> None:
    """Where all holes are filled, next to nothing is allocated."""
    body = """
prepare_to_fork()
from sagemaker_inference_lite.zygote import before_fork
first = sum(map(sys.getsizeof, before_fork._kept))
prepare_to_fork()
print(json.dumps([first, sum(map(sys.getsizeof, before_fork._kept)) - first]))
"""
    first, more = run(body)
    assert first < 8_000_000
    assert more < 500_000


def test_the_collector_leaves_alone_what_is_there() -> None:
    """All objects are frozen: the collector, which would write to each, never visits them in a worker."""
    frozen, left = run("prepare_to_fork(); print(json.dumps([gc.get_freeze_count(), len(gc.get_objects())]))")
    assert frozen > 5000
    assert left < 100


def test_what_scikit_learn_looks_up_is_looked_up_ahead() -> None:
    """Narwhals, where it is imported, is asked once for what it keeps; what it raises costs nothing."""
    body = """
narwhals = sys.modules["narwhals"] = types.ModuleType("narwhals")
def from_native(value, pass_through):
    said.append([value, pass_through])
    raise RuntimeError
narwhals.from_native = from_native
prepare_to_fork()
print(json.dumps(said))
"""
    assert run(body) == [[None, True]]


def test_loggers_of_this_library_stay_enabled() -> None:
    """Those that were made since the log was set up are not disabled by what a model does to the log either."""
    body = """
logs.install()
logger = logging.getLogger("sagemaker_inference_lite.made_later")
prepare_to_fork()
logger.disabled = True
print(json.dumps(logger.disabled))
"""
    assert run(body) is False
