# SPDX-License-Identifier: Apache-2.0
"""Waiting for what a supervisor waits for: signals, the end of children, messages."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import threading
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Callable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# A wake-up that got lost must not be waited for for ever.
_LONGEST_WAIT_SECONDS = 1.0


class Loop:
    """Collects signals from the moment it is entered, and wakes up for them, for children and for sockets.

    Signal handlers only enqueue; whoever calls turn() acts. Outside the main thread Python admits no signal
    handlers: the loop then works without, and stopping is up to whoever owns the main thread.
    """

    def __init__(self) -> None:
        self.stop_requests: deque[int] = deque()
        self.reload_requests: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._previous: dict[int, Any] = {}
        self._previous_wakeup = -1
        self._had_terminal = False

    def __enter__(self) -> Loop:
        self._selector.register(self._receiver, selectors.EVENT_READ, self._empty)
        if threading.current_thread() is threading.main_thread():
            self._previous_wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._request_stop)
            self._had_terminal = _has_terminal()
            # Whoever starts this with nohup wants it to outlive the terminal.
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._request_reload)
            self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _ignore)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not set from Python, and that Python cannot set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._previous:
            signal.set_wakeup_fd(self._previous_wakeup)
        self._selector.close()
        self._receiver.close()
        self._sender.close()

    def watch(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back on each turn in which the socket can be read."""
        self._selector.register(sock, selectors.EVENT_READ, callback)

    def forget(self, sock: socket.socket) -> None:
        """Undo watch()."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def turn(self, timeout_seconds: float = _LONGEST_WAIT_SECONDS) -> None:
        """Wait until something happens, or that long; run the callbacks of sockets that can be read."""
        for key, _ in self._selector.select(min(timeout_seconds, _LONGEST_WAIT_SECONDS)):
            key.data()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requests.append(number)

    def _request_reload(self, number: int, frame: FrameType | None) -> None:
        # The kernel sends it, too, when the terminal is closed at which somebody has started this.
        requests = self.stop_requests if self._had_terminal and not _has_terminal() else self.reload_requests
        requests.append(number)

    def _empty(self) -> None:
        with suppress(BlockingIOError):
            while self._receiver.recv(4096):
                pass


def _has_terminal() -> bool:
    """Whether this process has a terminal that is not closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def reap_orphans(own: Collection[int]) -> None:
    """As PID 1: reap the ended processes that nobody else can, those of orphans. Elsewhere there are none.

    Args:
        own: Processes of which somebody here holds the handle, and wants the status.
    """
    if os.getpid() != 1:
        return
    with suppress(ChildProcessError):
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            # An own child that has ended hides the orphans behind it until its owner has reaped it.
            if found is None or found.si_pid in own:
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def _ignore(number: int, frame: FrameType | None) -> None:
    """SIGCHLD needs a handler to wake the loop up; what it means is seen by polling."""
