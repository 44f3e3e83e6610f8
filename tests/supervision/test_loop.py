# SPDX-License-Identifier: Apache-2.0
"""Waiting for signals, children and sockets; and the orphans of a container's first process."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagemaker_inference_lite.supervision.loop import STOP_SIGNALS, Loop, reap_orphans

FIRST_PROCESS = Path(__file__).resolve().parents[1] / "programs" / "first_process.py"


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that has been entered."""
    with Loop() as loop:
        yield loop


def seconds_of_a_turn(loop: Loop, limit_seconds: float) -> float:
    """How long a turn takes."""
    begun = time.monotonic()
    loop.turn(limit_seconds)
    return time.monotonic() - begun


# -- signals ----------------------------------------------------------------------------------------------------------


def test_signals_are_enqueued(loop: Loop) -> None:
    """Requests to stop gather in their order, and a turn does not wait when one has come."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert list(loop.stop_requests) == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
    assert seconds_of_a_turn(loop, 1) < 0.5


def test_a_signal_wakes_a_turn_up(loop: Loop) -> None:
    """A request to stop that comes during a turn ends it."""
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert seconds_of_a_turn(loop, 1) < 0.8
    assert list(loop.stop_requests) == [signal.SIGTERM]
    timer.join()


def test_a_hang_up_asks_for_a_reload(loop: Loop) -> None:
    """SIGHUP is noted apart from what asks to stop."""
    os.kill(os.getpid(), signal.SIGHUP)
    assert list(loop.reload_requests) == [signal.SIGHUP]
    assert not loop.stop_requests


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    """Whoever starts a server with nohup wants it to outlive the terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Loop() as loop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not loop.reload_requests
            assert not loop.stop_requests
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_terminal_is_closed(tmp_path: Path) -> None:
    """SIGHUP of a terminal that is gone asks to stop: nobody is left who could press Ctrl-C."""
    program = (
        "import os, signal, sys, time\n"
        "from sagemaker_inference_lite.supervision.loop import Loop\n"
        "with Loop() as loop:\n"
        "    open(sys.argv[1], 'w').write('ready')\n"
        "    while not (loop.stop_requests or loop.reload_requests):\n"
        "        loop.turn(0.1)\n"
        "    open(sys.argv[1], 'w').write('stop' if loop.stop_requests else 'reload')\n"
    )
    note = tmp_path / "note"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program, str(note)])
    deadline = time.monotonic() + 20
    while not (note.exists() and note.read_text() == "ready"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert note.read_text() == "stop"


def test_more_signals_than_the_wake_up_can_hold(loop: Loop) -> None:
    """Thousands of signals between two turns are all noted, hold nothing up and break nothing."""
    for _ in range(3000):
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(loop.stop_requests) == 3000
    loop.turn(1)
    assert seconds_of_a_turn(loop, 0.05) >= 0.04


def test_signals_are_given_back() -> None:
    """Leaving the loop puts back what handled signals before, and nested loops do not disturb each other."""
    numbers = (*STOP_SIGNALS, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    with Loop() as outer:
        with Loop() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            inner.turn(1)
        os.kill(os.getpid(), signal.SIGINT)
        assert seconds_of_a_turn(outer, 1) < 0.5
        assert (list(inner.stop_requests), list(outer.stop_requests)) == ([signal.SIGTERM], [signal.SIGINT])
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_are_given_back_after_an_error() -> None:
    """The same where the loop is left by an error."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), Loop():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread() -> None:
    """In another thread the loop works without signals, which are left to whoever owns the main thread."""
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def run() -> None:
        with Loop() as loop:
            seen.append(signal.getsignal(signal.SIGTERM))
            loop.turn(0.01)
            seen.append("turned")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert seen == [before, "turned"]


# -- children and sockets ---------------------------------------------------------------------------------------------


def test_the_end_of_a_child_wakes_a_turn_up(loop: Loop) -> None:
    """A turn does not sleep through the end of a child."""
    with subprocess.Popen(["/bin/sh", "-c", "sleep 0.05"]):
        assert seconds_of_a_turn(loop, 1) < 0.8
    assert not loop.stop_requests


def test_sockets(loop: Loop) -> None:
    """A callback runs on each turn in which its socket can be read, until it is forgotten."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        calls: list[int] = []
        loop.watch(ours, lambda: calls.append(1))
        loop.turn(0)
        assert calls == []
        theirs.send(b"x")
        loop.turn(1)
        loop.turn(1)
        assert calls == [1, 1]
        loop.forget(ours)
        loop.turn(0)
        assert calls == [1, 1]


def test_forgetting_what_is_not_watched(loop: Loop) -> None:
    """A socket that is not watched, or closed already, can be forgotten all the same."""
    ours, theirs = socket.socketpair()
    with theirs:
        loop.forget(ours)
        loop.watch(ours, lambda: None)
        ours.close()
        loop.forget(ours)


def test_a_turn_has_an_end(loop: Loop) -> None:
    """A turn in which nothing happens takes as long as it was told, and never more than a second or so."""
    assert 0.04 <= seconds_of_a_turn(loop, 0.05) < 0.5
    assert 0.9 <= seconds_of_a_turn(loop, 60) < 5


# -- orphans ----------------------------------------------------------------------------------------------------------


def test_elsewhere_nothing_is_reaped() -> None:
    """A process that is not the first of its container leaves its children to their owners."""
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        reap_orphans([])
        assert child.wait(0) == 0


def test_the_first_process_reaps_orphans() -> None:
    """A container's first process reaps the orphans that it inherits, and leaves its own children to their owners."""
    unshare = shutil.which("unshare")
    if unshare is None or os.getuid() != 0:
        pytest.skip("needs the program unshare, and root to run it")
    namespace = [unshare, "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*namespace, "/bin/true"], capture_output=True).returncode != 0:
        pytest.skip("needs a kernel and a container that admit namespaces of processes")
    outcome = subprocess.run([*namespace, sys.executable, str(FIRST_PROCESS)], capture_output=True, text=True)
    assert (outcome.stdout, outcome.returncode) == ("all reaped\n", 0), outcome.stderr
