# SPDX-License-Identifier: Apache-2.0
"""How large a server is made on the machine at hand, and why: for the log, and for whoever asks why it is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sagemaker_inference_lite.machine import limits
from sagemaker_inference_lite.settings import BYTES_PER_MB, Settings

_LEAST_HEAP_MIB = 128
_USUAL_HEAP_MIB = 256
_REQUESTS_AT_ONCE = 16

# Workers of all models together; a process each.
MOST_WORKERS = 16_384

# What a worker costs the process that has most of its files, and what every process has beside them.
_FILES_PER_WORKER = 2
_OTHER_FILES = 256


class Size(NamedTuple):
    """A number, and where it comes from."""

    value: int
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


class Sizing(NamedTuple):
    """The sizes of a server.

    Attributes:
        cpus: What Java takes the number of processors to be.
        heap_mib: The limit of Java's heap, and of its buffers outside the heap, each.
        event_loops: Threads of the front end that serve connections.
        workers: Processes per model.
        threads: What numeric libraries are told to use in each worker.
    """

    cpus: Size
    heap_mib: Size
    event_loops: Size
    workers: Size
    threads: Size

    def with_workers(self, workers: Size, environ: Mapping[str, str]) -> Sizing:
        """The sizes with another number of workers."""
        return self._replace(workers=workers, threads=_threads(environ, self.cpus.value, workers.value))

    def __str__(self) -> str:
        return (
            f"workers per model: {self.workers}, threads per worker: {self.threads}, CPUs: {self.cpus}, "
            f"event loops: {self.event_loops}, heap: {self.heap_mib} MiB"
        )


def sizing(settings: Settings, environ: Mapping[str, str]) -> Sizing:
    """The sizes that these settings and this machine give."""
    cpus = Size(*limits.cpus())
    workers = _workers(settings, cpus.value)
    return Sizing(
        cpus, _heap(settings), _event_loops(cpus.value), workers, _threads(environ, cpus.value, workers.value)
    )


def most_workers(open_files: int) -> int:
    """How many workers there may be at a time.

    Args:
        open_files: How many files a process may have open; negative where that is not limited.
    """
    if open_files < 0:
        return MOST_WORKERS
    return max(1, min(MOST_WORKERS, (open_files - _OTHER_FILES) // _FILES_PER_WORKER))


def _workers(settings: Settings, cpus: int) -> Size:
    if settings.model_server_workers:
        return Size(settings.model_server_workers, "SAGEMAKER_MODEL_SERVER_WORKERS")
    return Size(1, "several models") if settings.multi_model else Size(cpus, "one per CPU")


def _threads(environ: Mapping[str, str], cpus: int, workers: int) -> Size:
    given = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if given.isdigit():
        return Size(int(given), "OMP_NUM_THREADS")
    return Size(max(1, cpus // workers), "CPUs / workers")


def _heap(settings: Settings) -> Size:
    """Memory for some of the largest requests, but no more than a quarter of the container: the rest is the models'."""
    quarter = limits.memory_bytes() // 4 // BYTES_PER_MB
    wanted = _REQUESTS_AT_ONCE * settings.max_payload_in_mb
    if max(wanted, _USUAL_HEAP_MIB) > quarter:
        return Size(
            max(_LEAST_HEAP_MIB, quarter), "a quarter of the memory" if quarter > _LEAST_HEAP_MIB else "the least"
        )
    if wanted > _USUAL_HEAP_MIB:
        return Size(wanted, f"{_REQUESTS_AT_ONCE} x SAGEMAKER_MAX_PAYLOAD_IN_MB")
    return Size(_USUAL_HEAP_MIB, "the usual")


def _event_loops(cpus: int) -> Size:
    """How many threads of the front end serve connections: the workers need the other half of the CPUs.

    On two CPUs one of them carries 21,000 small requests a second. With two the throughput is the same, and the slowest
    of a hundred requests on one connection takes 1.2 to 2.1 ms in place of 0.5 to 0.9, because a request may then have
    to wake a second thread up.
    """
    return Size(max(1, cpus // 2), "CPUs / 2")
