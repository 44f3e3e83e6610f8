# SPDX-License-Identifier: Apache-2.0
"""What a worker is doing, seen from the process that it was forked from."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Callable

import pytest
from running_server import eventually

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.ipc import worker_status
from sagemaker_inference_lite.ipc.worker_status import StatusPages, WorkerStatus


@pytest.fixture
def page() -> Iterator[WorkerStatus]:
    """A page."""
    page = StatusPages(1).take()
    yield page
    page.close()


def fork(work: Callable[[], None]) -> int:
    """Do some work in a forked process; returns its pid."""
    with warnings.catch_warnings():
        # The threads of other tests' libraries hold no lock that this work needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def in_a_worker(work: Callable[[], None]) -> None:
    """Do some work in a forked process, and wait for it."""
    assert os.waitpid(fork(work), 0)[1] == 0


def test_a_new_page(page: WorkerStatus) -> None:
    """A page begins as that of a worker that has not loaded its model."""
    assert page.read() == (worker_status.STARTING, 0.0, [])
    assert page.state() == worker_status.STARTING
    assert not page.overran(0)


@pytest.mark.parametrize(
    "state",
    [
        worker_status.STARTING,
        worker_status.IDLE,
        worker_status.READING,
        worker_status.HANDLING,
        worker_status.ANSWERING,
        worker_status.CLOSED,
    ],
)
def test_states_are_seen(page: WorkerStatus, state: int) -> None:
    """Each step that a worker enters is seen by the process that it was forked from."""
    in_a_worker(lambda: page.enter(state))
    assert page.state() == page.read().state == state


def test_requests_are_seen(page: WorkerStatus) -> None:
    """A worker's requests are known by their ids, and since when it has been at them on the same clock."""
    before = time.monotonic()
    in_a_worker(lambda: page.begin(["first", "zweite-é"]))
    state, started, request_ids = page.read()
    assert state == worker_status.HANDLING
    assert before <= started <= time.monotonic()
    assert request_ids == ["first", "zweite-é"]


def test_a_shorter_request_leaves_nothing_of_a_longer_one(page: WorkerStatus) -> None:
    """The ids are those of the last requests only."""
    in_a_worker(lambda: page.begin(["a" * 36, "b" * 36]))
    in_a_worker(lambda: page.begin(["c"]))
    assert page.read().request_ids == ["c"]
    in_a_worker(lambda: page.begin([]))
    assert page.read().request_ids == []


def test_as_many_ids_as_fit(page: WorkerStatus) -> None:
    """A hundred ids of the front end's fit; where they do not, none is there, rather than some."""
    ids = [f"{number:036d}" for number in range(100)]
    page.begin(ids)
    assert page.read().request_ids == ids
    page.begin(["x" * mmap.PAGESIZE])
    assert (page.state(), page.read().request_ids) == (worker_status.HANDLING, [])


def test_what_a_killed_worker_was_doing(page: WorkerStatus) -> None:
    """What a worker wrote last stays when it is killed: that is what the page is for."""

    def work() -> None:
        page.begin(["id"])
        time.sleep(1000)

    pid = fork(work)
    eventually(lambda: page.state() == worker_status.HANDLING)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert page.read().request_ids == ["id"]


def test_overrun(page: WorkerStatus) -> None:
    """A request overruns when it has been handled for longer than the limit; anything else a worker does has none."""
    in_a_worker(lambda: page.begin(["id"]))
    assert not page.overran(60)
    eventually(lambda: page.overran(0.01))
    for state in (
        worker_status.ANSWERING,
        worker_status.IDLE,
        worker_status.READING,
        worker_status.STARTING,
        worker_status.CLOSED,
    ):
        page.enter(state)
        assert not page.overran(0.01)


def test_pages_are_apart() -> None:
    """What one worker writes is on its own page."""
    pages = StatusPages(2)
    first, second = pages.take(), pages.take()
    in_a_worker(lambda: first.begin(["first"]))
    assert second.read() == (worker_status.STARTING, 0.0, [])
    first.close()
    second.close()


def test_a_page_of_a_number_is_the_same_memory() -> None:
    """A process that knows a page's number sees what the one that took it writes."""
    pages = StatusPages(2)
    taken, other = pages.take(), pages.take()
    taken.begin(["a"])
    assert pages.at(taken.number).read().request_ids == ["a"]
    assert pages.at(other.number).state() == worker_status.STARTING


def test_pages_are_used_again() -> None:
    """A page that was given back is taken again, and begins anew; more than there are cannot be taken."""
    pages = StatusPages(1)
    page = pages.take()
    page.begin(["a"])
    with pytest.raises(OSError, match="all pages of workers are in use"):
        pages.take()
    pages.give_back(page)
    assert pages.take().state() == worker_status.STARTING


def test_a_request_that_has_begun_to_come_unsaid(page: WorkerStatus) -> None:
    """A worker that ended before it could say that it reads has read, if the memory behind its page says so."""
    page.enter(worker_status.IDLE)
    assert page.read().state == worker_status.IDLE
    page.buffer[7] = 1
    assert page.read().state == worker_status.READING


@pytest.mark.parametrize(
    ("at", "junk"), [(0, b"\x07"), (16, b"\xff\xff\xff\x7f"), (16, b"\xff\xff\xff\xff"), (16, b"\x01\0\0\0\xff")]
)
def test_what_no_worker_writes(page: WorkerStatus, at: int, junk: bytes) -> None:
    """A state, a length or ids that cannot be are a WireError."""
    page.begin(["id"])
    page._map[at : at + len(junk)] = junk
    with pytest.raises(WireError):
        page.read()


@pytest.mark.parametrize("started", [float("nan"), float("inf"), float("-inf"), 1e12], ids=str)
def test_a_time_that_cannot_be_is_an_overrun(page: WorkerStatus, started: float) -> None:
    """A limit is not escaped by writing nonsense for the time at which a request began."""
    page.begin(["id"])
    assert not page.overran(1000)
    struct.pack_into("d", page._map, 8, started)
    assert page.overran(1000)


def test_a_worker_keeps_its_own_page_alone() -> None:
    """What it writes there is seen, and the page of another is not there any more; nor is its own in its children."""
    pages = StatusPages(3)
    others, own = [pages.take() for _ in range(2)], pages.take()

    def touch(page: WorkerStatus) -> int:
        def child() -> None:
            faulthandler.disable()
            page.enter(worker_status.HANDLING)

        return os.waitstatus_to_exitcode(os.waitpid(fork(child), 0)[1])

    def work() -> None:
        pages.keep_only(own)
        own.enter(worker_status.READING)
        assert [touch(page) for page in (*others, own)] == [-signal.SIGSEGV] * 3

    in_a_worker(work)
    assert own.state() == worker_status.READING
    assert [page.state() for page in others] == [worker_status.STARTING] * 2
