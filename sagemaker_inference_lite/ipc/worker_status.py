# SPDX-License-Identifier: Apache-2.0
"""What a worker is doing, in a page of memory that it shares with the zygote.

The worker writes at each step of a request, without a system call; the zygote reads when a worker has died or
when it looks for requests that overran their limit. So it can answer for the worker where that is safe:
only while the request has been read whole and nothing of an answer has been sent.

The model can write there as well as the worker, so the zygote reads it as an attacker's; and to its own page alone,
because a worker lets go of all others, and what it forks has none.

Behind the page lies the memory that a request is received into. So the zygote sees whether one has begun to come, also
where the worker ended between the kernel's writing it there and its own saying so.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.ipc import wire

STARTING = 0  # forked; the model is not loaded
IDLE = 1  # waits for a request
READING = 2  # a request has begun to come
HANDLING = 3  # the request has come whole; nothing has been answered
ANSWERING = 4  # an answer may be on its way
CLOSED = 5  # the front end has closed the connection

_STATES = frozenset((STARTING, IDLE, READING, HANDLING, ANSWERING, CLOSED))

# Found before any fork: to look for it takes memory of the child's own.
_MUNMAP = ctypes.CDLL(None).munmap
_MUNMAP.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

_STARTED = struct.Struct("d")
_LENGTH = struct.Struct("i")
_STARTED_AT = 8
_LENGTH_AT = 16
_IDS_AT = 20

# A page, and the memory behind it.
_SLOT_BYTES = mmap.PAGESIZE + wire.LARGE_BODY_AT


class Reading(NamedTuple):
    """A page as the zygote found it.

    Attributes:
        state: One of the constants above.
        started: When the request had come whole, on time.monotonic()'s clock, in seconds.
        request_ids: The requests that wait for an answer; empty where they did not fit, or none waits.
    """

    state: int
    started: float
    request_ids: list[str]


class StatusPages:
    """Memory for many pages, shared by all processes that are forked afterwards, in whatever order they come.

    Args:
        count: How many pages there are at most. Those that are never used take no memory.
    """

    def __init__(self, count: int) -> None:
        self._map = mmap.mmap(-1, count * _SLOT_BYTES)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._count = count
        self._free = list(range(count - 1, -1, -1))

    def take(self) -> WorkerStatus:
        """A page that nobody uses.

        Raises:
            OSError: ENOSPC. All are in use.
        """
        if not self._free:
            raise OSError(errno.ENOSPC, "all pages of workers are in use")
        return self.at(self._free.pop())

    def at(self, number: int) -> WorkerStatus:
        """The page of that number, which another process has taken."""
        start = number * _SLOT_BYTES
        return WorkerStatus(memoryview(self._map)[start : start + _SLOT_BYTES], number)

    def keep_only(self, page: WorkerStatus) -> None:
        """In the worker of a page: let go of all others for good, and of this one in whatever is forked from here."""
        before = page.number * _SLOT_BYTES
        after = before + _SLOT_BYTES
        self._map.madvise(mmap.MADV_DONTFORK, before, _SLOT_BYTES)
        for start, end in ((0, before), (after, self._count * _SLOT_BYTES)):
            if start < end:
                _MUNMAP(self._address + start, end - start)

    def give_back(self, page: WorkerStatus) -> None:
        """Lets another use a page, which no worker uses any more."""
        page.close()
        # The next worker finds zeros, and nobody holds the memory until it has requests.
        start = page.number * _SLOT_BYTES
        try:
            self._map.madvise(mmap.MADV_REMOVE, start, _SLOT_BYTES)
        except OSError:  # a sandbox that has no such advice
            self._map[start : start + _SLOT_BYTES] = bytes(_SLOT_BYTES)
        self._free.append(page.number)


class WorkerStatus:
    """One page, used by one worker at a time.

    Attributes:
        number: Its place among those that are shared.
        buffer: What the worker receives requests into. Its first bytes are zeros while none has begun to come.
    """

    def __init__(self, memory: memoryview, number: int) -> None:
        self._map = memory[: mmap.PAGESIZE]
        self.buffer = memory[mmap.PAGESIZE :]
        self.number = number

    def begin_anew(self) -> None:
        """The zygote: the next worker of this page is about to be forked."""
        self._map[0] = STARTING
        self.buffer[: wire.LENGTH_BYTES] = bytes(wire.LENGTH_BYTES)

    def enter(self, state: int) -> None:
        """The worker: I am doing this now."""
        self._map[0] = state

    def begin(self, request_ids: Sequence[str]) -> None:
        """The worker: these requests have come whole, and I start on them now."""
        ids = "\n".join(request_ids).encode()
        # Written before the state: a reader that sees HANDLING must see this request's ids, not the last one's.
        if len(ids) > mmap.PAGESIZE - _IDS_AT:
            ids = b""
        self._map[_IDS_AT : _IDS_AT + len(ids)] = ids
        _LENGTH.pack_into(self._map, _LENGTH_AT, len(ids))
        _STARTED.pack_into(self._map, _STARTED_AT, time.monotonic())
        self._map[0] = HANDLING

    def state(self) -> int:
        """What the worker is doing."""
        return self._map[0]

    def read(self) -> Reading:
        """All of the page. Exact only while its worker does not run; otherwise the ids may be of the next request.

        Raises:
            WireError: It holds what no worker writes.
        """
        state = self._map[0]
        length = _LENGTH.unpack_from(self._map, _LENGTH_AT)[0]
        if state not in _STATES or not 0 <= length <= mmap.PAGESIZE - _IDS_AT:
            raise WireError(f"a page with the state {state} and {length} bytes of ids")
        try:
            ids = bytes(self._map[_IDS_AT : _IDS_AT + length]).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"a page with ids that cannot be read: {error.reason}") from None
        started = _STARTED.unpack_from(self._map, _STARTED_AT)[0]
        if state == IDLE and any(self.buffer[: wire.LENGTH_BYTES]):
            state = READING
        return Reading(state, started, ids.split("\n") if ids else [])

    def overran(self, limit_seconds: float) -> bool:
        """Whether a request has been handled for longer than the limit, or for no length of time that can be."""
        if self._map[0] != HANDLING:
            return False
        started = _STARTED.unpack_from(self._map, _STARTED_AT)[0]
        # The clock is read behind it: meanwhile the worker may have begun with its next request.
        return not 0 <= time.monotonic() - started <= limit_seconds

    def close(self) -> None:
        """Let go of the memory in this process."""
        self._map.release()
        self.buffer.release()
