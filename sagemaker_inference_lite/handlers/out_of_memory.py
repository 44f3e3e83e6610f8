# SPDX-License-Identifier: Apache-2.0
"""Whether an error means that memory ran out. The platform unloads other models when it is told 507."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from sagemaker_inference_lite.runtime.printable import text_of

# What frameworks say in exceptions of a general type: torch's CPU and CUDA allocators, CUDA's libraries.
_PHRASES = (
    "cuda out of memory",
    "cuda error: out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cuda_error_out_of_memory",
)


def is_memory_error(error: BaseException) -> bool:
    """True for MemoryError, ENOMEM, an OutOfMemoryError of any framework, and what was raised from one of them."""
    return any(_says_memory(link) for link in _chain(error))


def _says_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = text_of(error).lower() if isinstance(error, RuntimeError) else ""
    return any(phrase in text for phrase in _PHRASES)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__
