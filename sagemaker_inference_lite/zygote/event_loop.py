# SPDX-License-Identifier: Apache-2.0
"""The zygote's event loop: sockets, timers and the ends of children, on one thread and without asyncio.

asyncio would be imported into every worker, and cannot be left behind in a fork.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import selectors
import signal
import socket
import time
from contextlib import suppress
from typing import Callable

# Run as a program, the zygote is what its users know.
logger = logging.getLogger("sagemaker_inference_lite.zygote")

Callback = Callable[[], None]

# After a callback that has failed: one that fails on every turn must not take a CPU, nor fill the log.
_PAUSE_SECONDS = 0.1


class EventLoop:
    """Calls back when sockets can be read and when times have come. It wakes up when a child ends.

    A callback that raises costs a record in the log: it is one connection's trouble, and the others are served.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []
        self._timer_numbers = itertools.count()  # two timers of the same moment must not compare their callbacks
        self._hangups = select.epoll()
        self._on_hangup: dict[int, Callback] = {}
        self._selector.register(self._hangups, selectors.EVENT_READ, self._notice_hangups)
        # Descriptors that a child must not keep, one byte each: to look at an object in a child is to copy its page.
        self._own = bytearray()
        self._note_own(self._selector.fileno())
        self._note_own(self._hangups.fileno())

    def wake_for_children(self) -> None:
        """Have turn() return when a child ends."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        self._note_own(signal_descriptor := sender.detach())
        signal.set_wakeup_fd(signal_descriptor, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.watch(receiver, lambda: _empty(receiver))

    def watch(self, sock: socket.socket, callback: Callback) -> None:
        """Call back on each turn in which the socket can be read. From now on it is closed in children."""
        self._selector.register(sock, selectors.EVENT_READ, callback)
        self._note_own(sock.fileno())

    def unwatch(self, sock: socket.socket) -> None:
        """Undo watch() and watch_for_hangup(), where they are in force. Children close the socket all the same."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)
        if self._on_hangup.pop(sock.fileno(), None):
            self._hangups.unregister(sock)

    def watch_for_hangup(self, sock: socket.socket, callback: Callback) -> None:
        """Call back once the peer has closed the socket, from which another process reads."""
        self._on_hangup[sock.fileno()] = callback
        # EPOLLHUP is told in any case. What comes to be read wakes nobody up here.
        self._hangups.register(sock, select.EPOLLRDHUP)

    def _notice_hangups(self) -> None:
        for descriptor, _ in self._hangups.poll(0):
            callback = self._on_hangup.pop(descriptor, None)
            if callback is not None:
                self._hangups.unregister(descriptor)
                guarded(callback)

    def drop(self, sock: socket.socket) -> None:
        """Undo watch() and close the socket."""
        self.unwatch(sock)
        if sock.fileno() >= 0:
            self._own[sock.fileno()] = 0
        sock.close()

    def _note_own(self, descriptor: int) -> None:
        if descriptor >= len(self._own):
            self._own.extend(bytes(descriptor + 64 - len(self._own)))
        self._own[descriptor] = 1

    def later(self, seconds: float, callback: Callback) -> None:
        """Call back once, so many seconds from now."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._timer_numbers), callback))

    def turn(self, patience_seconds: float | None) -> None:
        """Wait for something to happen, but no longer than that; call back for all that has."""
        if self._timers:
            until_timer = max(0.0, self._timers[0][0] - time.monotonic())
            patience_seconds = until_timer if patience_seconds is None else min(patience_seconds, until_timer)
        for key, _ in self._selector.select(patience_seconds):
            if self._selector.get_map().get(key.fd) is key:  # an earlier callback may have closed it
                guarded(key.data)
        while self._timers and self._timers[0][0] <= time.monotonic():
            guarded(heapq.heappop(self._timers)[2])

    def close_in_child(self, kept: int = -1) -> None:
        """After a fork: close all that the parent has ever watched, but one; it would not end where its owner ends it.

        The objects stay as they are, and must not be used.
        """
        signal.set_wakeup_fd(-1)  # it is among them
        own = self._own
        descriptor = own.find(1)
        while descriptor >= 0:
            if descriptor != kept:
                os.close(descriptor)
            descriptor = own.find(1, descriptor + 1)


def guarded(callback: Callback) -> None:
    """Call it; a failure costs a record in the log, and a pause."""
    try:
        callback()
    except Exception:
        logger.exception("a callback of the zygote's failed; it goes on without")
        time.sleep(_PAUSE_SECONDS)


def _empty(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        while sock.recv(4096):
            pass
