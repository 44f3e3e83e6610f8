# SPDX-License-Identifier: Apache-2.0
"""What is done once before workers are forked, so that each of them writes to fewer pages of its parent's.

A page that a worker writes to is copied for it (fork(2)), whatever else is on it. So what counts is where it writes.
"""

from __future__ import annotations

import gc
from typing import Callable

# Of pymalloc (Objects/obmalloc.c): what is larger comes from malloc.
_STEP = 16
_LARGEST = 512
_PAGE = 4096

# The most that is spent on one size of block.
_MOST_BYTES = 4 << 20

_OF_BYTES = b"".__sizeof__()

_kept: list[object] = []


def settle_memory() -> None:
    """To be called when all is imported, and again when more is.

    Objects that the collector never visits again are pages that no worker has to copy. And what a worker allocates is
    put by Python into the holes that imports have left, one on each of hundreds of pages; so these are filled.
    """
    gc.collect()
    for size in range(_STEP, _LARGEST + 1, _STEP):
        _fill_holes(size)
    gc.freeze()


def _fill_holes(size: int) -> None:
    """Allocate blocks of a size until they come from one page after the other."""
    make = _maker(size)
    batch = _PAGE // size
    for _ in range(_MOST_BYTES // _PAGE):
        blocks = [make() for _ in range(batch)]
        _kept.extend(blocks)
        if len({id(block) // _PAGE for block in blocks}) <= 2:
            return


def _maker(size: int) -> Callable[[], object]:
    """What makes an object that takes a block of that size."""
    if size == _STEP:
        return object
    if size < _OF_BYTES:
        return lambda: int("1000")
    return lambda: bytes(size - _OF_BYTES)
