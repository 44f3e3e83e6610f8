# SPDX-License-Identifier: Apache-2.0
"""What a process holds that its forks could not use: native threads, connections, event queues, CUDA.

A fork takes only the thread that calls it along. A library that waits in the child for one of its others waits for ever
(gunicorn#1891, xgboost#8040), and children that share a connection or an epoll instance take one another's bytes and
events. CUDA refuses to work in a fork of a process that has initialised it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

# These packages start threads when they are imported and are tested to compute in a fork with more than one: OpenBLAS
# starts its threads anew (pthread_atfork), and OpenMP's start with the first computation. It is their import that is
# harmless: OpenMP's threads, once they have computed, are lost.
SURVIVE_A_FORK = frozenset({"numpy", "scipy", "sklearn", "threadpoolctl", "torch"})

# How long a thread that is about to end is waited for.
_ENDING_SECONDS = 0.25
_POLL_SECONDS = 0.01

_CUDA_ERROR_NOT_INITIALIZED = 3


class Held(NamedTuple):
    """What this process holds.

    Attributes:
        threads: How many there are.
        shared: Connections and epoll instances, by what /proc calls them.
        cuda: CUDA is initialised.
    """

    threads: int
    shared: frozenset[str]
    cuda: bool


def held() -> Held:
    """What this process holds now."""
    targets = {number: _target(number) for number in os.listdir("/proc/self/fd")}
    shared = {target for number, target in targets.items() if _is_shared(int(number), target)}
    has_device = any(target.startswith("/dev/nvidia") for target in targets.values())
    return Held(count_threads(), frozenset(shared), has_device or _has_initialised_cuda())


def why_unsafe(before: Held, harmless_threads: int = 0) -> str:
    """Why a fork of this process could not use what it has come to hold; "" where it can.

    To be read after "it". Threads that are about to end are waited for.

    Args:
        before: What it held when it was fit to be forked.
        harmless_threads: Of those that have come since, how many a fork may lose.
    """
    most = before.threads + harmless_threads
    deadline = time.monotonic() + _ENDING_SECONDS
    while count_threads() > most and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    now = held()
    if now.threads > most:
        return f"starts threads ({now.threads - most}), which a fork would lose"
    if now.cuda and not before.cuda:
        return "initialises CUDA, which cannot be used after a fork"
    if now.shared - before.shared:
        return f"opens connections or event loops ({len(now.shared - before.shared)}), which forks would share"
    return ""


def count_threads() -> int:
    """How many threads this process has, those of native libraries among them."""
    return len(os.listdir("/proc/self/task"))


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # that of the listing itself
        return ""


def _is_shared(descriptor: int, target: str) -> bool:
    return target == "anon_inode:[eventpoll]" or (target.startswith("socket:") and _is_connection(descriptor))


def _is_connection(descriptor: int) -> bool:
    """Whether it is a connected stream. Those who share a datagram socket, to a log or for metrics, do no harm."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            duplicate.getpeername()
            return duplicate.type == socket.SOCK_STREAM
    except OSError:
        return False


def _has_initialised_cuda() -> bool:
    """Asked of the driver itself, where something has loaded it. It answers without being initialised by that."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        path = next((line.split(maxsplit=5)[-1].strip() for line in file if "/libcuda.so" in line), None)
    if path is None:
        return False
    try:
        status: int = ctypes.CDLL(path).cuDeviceGetCount(ctypes.byref(ctypes.c_int()))
    except (OSError, AttributeError):
        return False
    return status != _CUDA_ERROR_NOT_INITIALIZED


class ImportWatch:
    """Finds out which package's import starts which threads, as long as it is entered.

    A finder that finds what the others do, and counts before and after the module is executed. What a module computes
    when it is imported counts as its own, even where a library that it calls starts the threads.

    Attributes:
        threads_of: How many threads each package's own modules have started.
    """

    def __init__(self) -> None:
        self.threads_of: Counter[str] = Counter()

    def __enter__(self) -> ImportWatch:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.meta_path.remove(self)

    def harmless(self) -> int:
        """How many threads were started by the imports of packages that survive a fork."""
        return sum(count for package, count in self.threads_of.items() if package in SURVIVE_A_FORK)

    def culprits(self) -> list[str]:
        """The packages that have started others."""
        return [package for package in self.threads_of if package not in SURVIVE_A_FORK]

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the finders behind this one find, of which the threads will be counted."""
        package, dot, _ = name.partition(".")
        if dot and package not in SURVIVE_A_FORK:  # counted with its package's caller: to count takes time
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if find is None:
                return None  # Python knows what to do with one of that kind
            spec: ModuleSpec | None = find(name, path, target) if finder is not self else None
            if spec is not None:
                self._count_at(spec, package)
                return spec
        return None

    def _count_at(self, spec: ModuleSpec, package: str) -> None:
        loader: Any = spec.loader
        if isinstance(loader, type) or not hasattr(loader, "exec_module"):  # built in, or frozen
            return
        threads, accounted = count_threads(), sum(self.threads_of.values())

        def execute(module: ModuleType) -> None:
            del loader.exec_module
            try:
                loader.exec_module(module)
            finally:
                others = sum(self.threads_of.values()) - accounted
                started = count_threads() - threads - others
                if started > 0:
                    self.threads_of[package] += started

        with suppress(AttributeError):  # it has no place for it; then whoever imports it is named
            loader.exec_module = execute
