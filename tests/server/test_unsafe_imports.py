# SPDX-License-Identifier: Apache-2.0
"""A handler whose import leaves behind what a fork breaks is imported by each worker for itself, and answered."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Callable

import pytest
from running_server import Server

# A native library with a pool of threads, which waits for them at each computation, as OpenMP's libraries do.
POOL = """
#include <pthread.h>
#include <semaphore.h>
static sem_t asked, done;
static int started;
static void *work(void *none) { for (;;) { sem_wait(&asked); sem_post(&done); } return none; }
int compute(void) {
    if (!started) {
        pthread_t thread;
        sem_init(&asked, 0, 0); sem_init(&done, 0, 0);
        pthread_create(&thread, 0, work, 0);
        started = 1;
    }
    sem_post(&asked); sem_wait(&done);
    return 42;
}
"""

# The driver's entry that tells whether it has been initialised, and the one that does it.
CUDA = """
static int initialised;
int cuInit(unsigned flags) { initialised = 1; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return initialised ? 0 : 3; }
"""

HANDLER = """
import os
{at_import}
def handle(data, context):
    if data is None:
        return None
    return [f"{{os.getpid()}} {{({answer})}}" for _ in data]
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with these libraries."""
    directory = tmp_path_factory.mktemp("libraries")
    for name, source in (("pool", POOL), ("cuda", CUDA)):
        (directory / f"{name}.c").write_text(source)
        command = ["cc", "-shared", "-fPIC", "-pthread", "-o", f"lib{name}.so", f"{name}.c"]
        try:
            subprocess.run(command, cwd=directory, check=True)
        except OSError:
            pytest.skip("there is no C compiler (cc)")
    return directory


def started(start: Callable[..., Server], tmp_path: Path, at_import: str, answer: str = "0", **environ: str) -> Server:
    """A single-model server with two workers and a handler that does something when it is imported."""
    handler = tmp_path / "careless.py"
    handler.write_text(HANDLER.format(at_import=at_import, answer=answer))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").touch()
    settings = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "5", **environ}
    return start(str(handler), **settings).ready()


def assert_imported_by_each(server: Server, why: str) -> None:
    """The log says why, once, and both workers answer."""
    answers = [server.invoke() for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}, server.output()
    log = server.output()
    assert log.count("cannot be imported once for all workers") == 1
    assert f"because its import {why}" in log
    assert "Each worker imports it by itself" in log
    assert server.stop() == 0


def test_a_pool_of_native_threads(start: Callable[..., Server], tmp_path: Path, libraries: Path) -> None:
    """A handler that computes with native threads at its import is answered (gunicorn#1891, xgboost#8040)."""
    at_import = f"import ctypes\nPOOL = ctypes.CDLL({str(libraries / 'libpool.so')!r})\nPOOL.compute()"
    server = started(start, tmp_path, at_import, "POOL.compute()")
    assert server.invoke().text.endswith(" 42")
    assert_imported_by_each(server, "starts threads (1), which a fork would lose")


def test_a_package_that_starts_threads_is_named(start: Callable[..., Server], tmp_path: Path) -> None:
    """The line in the log names the package whose import started them."""
    (tmp_path / "busy_package.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    server = started(start, tmp_path, "import busy_package")
    assert_imported_by_each(server, "starts threads (1), which a fork would lose (in busy_package)")


def test_cuda_that_is_initialised_at_import(start: Callable[..., Server], tmp_path: Path, libraries: Path) -> None:
    """A zygote that holds CUDA would make every model fail: its workers import the handler for themselves."""
    at_import = f"import ctypes\nctypes.CDLL({str(libraries / 'libcuda.so')!r}).cuInit(0)"
    assert_imported_by_each(started(start, tmp_path, at_import), "initialises CUDA")


def test_an_event_loop_made_at_import(start: Callable[..., Server], tmp_path: Path) -> None:
    """Workers that shared one would take each other's events: each has its own, and uses it."""
    at_import = "import asyncio\nLOOP = asyncio.new_event_loop()\nasync def compute():\n    await asyncio.sleep(0.001)"
    server = started(start, tmp_path, at_import, "LOOP.run_until_complete(compute())")
    assert_imported_by_each(server, "opens connections or event loops")


def test_a_preload_that_starts_threads(start: Callable[..., Server], tmp_path: Path) -> None:
    """A module of SAGEMAKER_MODEL_SERVER_PRELOAD is left out by name; the handler is shared all the same."""
    (tmp_path / "busy_preload.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    server = started(
        start,
        tmp_path,
        "IMPORTED_BY = os.getpid()",
        "IMPORTED_BY == os.getppid()",
        SAGEMAKER_MODEL_SERVER_PRELOAD="wave,busy_preload",
        PYTHONPATH=os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")])),
    )
    assert server.invoke().text.endswith(" True")
    assert "the module busy_preload (SAGEMAKER_MODEL_SERVER_PRELOAD)" in server.output()
    assert_imported_by_each(server, "starts threads (1)")


@pytest.mark.parametrize(
    "at_import",
    [
        "import numpy",
        "import threading\nTHREAD = threading.Thread(target=os.getpid)\nTHREAD.start()",
        "import socket\nMETRICS = socket.socket(type=socket.SOCK_DGRAM)\nMETRICS.connect(('127.0.0.1', 8125))",
    ],
    ids=["numpy's threads", "a thread that ends", "a datagram socket"],
)
def test_what_does_no_harm_is_shared(start: Callable[..., Server], tmp_path: Path, at_import: str) -> None:
    """Threads that survive a fork or have ended, and sockets that may be shared, cost nothing."""
    server = started(
        start, tmp_path, f"{at_import}\nIMPORTED_BY = os.getpid()", "IMPORTED_BY == os.getppid()", OMP_NUM_THREADS="2"
    )
    assert server.invoke().text.endswith(" True")
    assert "cannot be imported once" not in server.output()
    assert server.stop() == 0
