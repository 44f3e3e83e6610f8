# SPDX-License-Identifier: Apache-2.0
"""Which errors mean that memory ran out."""

from __future__ import annotations

import errno

import pytest

from sagemaker_inference_lite.handlers.out_of_memory import is_memory_error


class OutOfMemoryError(RuntimeError):
    """As torch.cuda.OutOfMemoryError and others are called."""


def raised_from(cause: BaseException) -> BaseException:
    """An error of which another is the cause."""
    error = ValueError("the model cannot be loaded")
    error.__cause__ = cause
    return error


def cycle() -> BaseException:
    """An error that is its own cause's cause."""
    error = raised_from(ValueError())
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OutOfMemoryError("tried to allocate 2 GiB"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 14.76 GiB total capacity)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        raised_from(MemoryError()),
        raised_from(raised_from(RuntimeError("CUDA out of memory."))),
    ],
    ids=repr,
)
def test_memory_ran_out(error: BaseException) -> None:
    """Python's own error, the kernel's, those of frameworks in all their disguises, and what was raised from one."""
    assert is_memory_error(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA out of memory"),
        RuntimeError("CUDA error: device-side assert triggered"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Cannot allocate memory"),
        KeyError("memory"),
        SystemExit(1),
        raised_from(ValueError("memory")),
        cycle(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_something_else(error: BaseException) -> None:
    """Anything else is none, whatever its text says, and a circle of causes is no trap."""
    assert not is_memory_error(error)


def test_the_context_does_not_count() -> None:
    """An error that was raised while another was handled, but not from it, is its own."""
    error = ValueError("no such column")
    error.__context__ = MemoryError()
    assert not is_memory_error(error)
