# SPDX-License-Identifier: Apache-2.0
"""What is done once before workers are forked, so that each of them writes to fewer pages of its parent's.

A page that a worker writes to is copied for it (fork(2)), whatever else is on it. So what counts is where it writes.
"""

from __future__ import annotations

import gc
from typing import Callable

from sagemaker_inference_lite.runtime import logs
from sagemaker_inference_lite.worker.imports import look_up_ahead

# Of pymalloc (Objects/obmalloc.c): what is larger comes from malloc.
_STEP = 16
_LARGEST = 512
_PAGE = 4096
_POOL_HEADER = 48

# As many blocks as a page has of the largest.
_IN_A_ROW = 7

# The most that is spent on one size of block.
_MOST_BYTES = 4 << 20

_OF_BYTES = b"".__sizeof__()

_kept: list[object] = []


def prepare_to_fork() -> None:
    """To be called when all is imported, and again when more is.

    Objects that the collector never visits again are pages that no worker has to copy. And what a worker allocates is
    put by Python into the holes that imports have left, one on each of hundreds of pages; so these are filled.
    """
    look_up_ahead()
    logs.keep_ours_enabled()
    gc.collect()
    for size in range(_STEP, _LARGEST + 1, _STEP):
        if not _fill_holes(size):
            break  # this Python's memory does not come from pymalloc
    gc.freeze()


def _fill_holes(size: int) -> bool:
    """Allocate blocks of a size until they come from a pool that nothing has been in before; whether they came to that.

    Python begins such a one when all others of that size are full, and gives its blocks away from the first one on.
    """
    make = _maker(size)
    address, in_a_row = 0, 0
    for _ in range(_MOST_BYTES // size):
        before, block = address, make()
        _kept.append(block)
        address = id(block)
        is_first = address % _PAGE == _POOL_HEADER
        # Not always the next one: the numbers that this counts with take blocks of their own.
        in_a_row = 1 if is_first else in_a_row + 1 if in_a_row and 0 < address - before <= 4 * size else 0
        if in_a_row == _IN_A_ROW:
            return True
    return False


def _maker(size: int) -> Callable[[], object]:
    """What makes an object that takes a block of that size."""
    if size == _STEP:
        return object
    if size < _OF_BYTES:
        return lambda: int("1000")
    return lambda: bytes(size - _OF_BYTES)
