# SPDX-License-Identifier: Apache-2.0
"""The event loop: what it calls back for, and what it does not wake up for."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sagemaker_inference_lite.zygote.event_loop import EventLoop


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def turns(loop: EventLoop, seconds: float) -> int:
    """How often the loop wakes up in that time, at least once."""
    count, deadline = 0, time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        loop.turn(max(0.0, left))
        if left <= 0:
            return count
        count += 1


def test_a_hangup(sockets: tuple[socket.socket, socket.socket]) -> None:
    """That the peer has closed a connection is told, once."""
    ours, theirs = sockets
    loop, told = EventLoop(), list[str]()
    loop.watch_for_hangup(ours, lambda: told.append("hangup"))
    loop.turn(0)
    assert told == []
    theirs.close()
    loop.turn(10)
    loop.turn(0)
    assert told == ["hangup"]


@pytest.mark.parametrize("unread", [b"", b"a request that nobody will read"])
def test_a_hangup_before_the_watch(sockets: tuple[socket.socket, socket.socket], unread: bytes) -> None:
    """A hangup is told although it came before anybody watched for it, and whatever is still to be read."""
    ours, theirs = sockets
    theirs.sendall(unread)
    theirs.close()
    loop, told = EventLoop(), list[str]()
    loop.watch_for_hangup(ours, lambda: told.append("hangup"))
    loop.turn(10)
    assert told == ["hangup"]


def test_half_a_hangup(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A peer that will send nothing more has hung up."""
    ours, theirs = sockets
    loop, told = EventLoop(), list[str]()
    loop.watch_for_hangup(ours, lambda: told.append("hangup"))
    theirs.shutdown(socket.SHUT_WR)
    loop.turn(10)
    assert told == ["hangup"]


def test_bytes_are_no_hangup(sockets: tuple[socket.socket, socket.socket]) -> None:
    """What comes to be read, and is another process's to read, wakes nobody up."""
    ours, theirs = sockets
    loop, told = EventLoop(), list[str]()
    loop.watch_for_hangup(ours, lambda: told.append("hangup"))
    theirs.sendall(b"a request")
    assert turns(loop, 0.2) <= 2
    assert (told, ours.recv(100)) == ([], b"a request")


def test_a_hangup_that_is_not_watched_for(sockets: tuple[socket.socket, socket.socket]) -> None:
    """Once a socket is not watched any more, or is closed, its hangup is not told; it may be watched anew."""
    ours, theirs = sockets
    loop, told = EventLoop(), list[str]()
    loop.watch_for_hangup(ours, lambda: told.append("first"))
    loop.unwatch(ours)
    loop.unwatch(ours)
    theirs.shutdown(socket.SHUT_WR)
    assert turns(loop, 0.1) <= 2
    assert told == []
    loop.watch_for_hangup(ours, lambda: told.append("second"))
    loop.turn(10)
    assert told == ["second"]
    loop.drop(ours)
    assert ours.fileno() == -1
    assert turns(loop, 0.1) <= 2


def test_hangups_of_many(sockets: tuple[socket.socket, socket.socket]) -> None:
    """Of hangups that come at once each is told, but for those that another's callback does away with."""
    loop, told = EventLoop(), list[int]()
    pairs = [socket.socketpair() for _ in range(3)]

    def first_or_last(place: int) -> None:
        told.append(place)
        loop.drop(pairs[2 - place][0])

    loop.watch_for_hangup(pairs[0][0], lambda: first_or_last(0))
    loop.watch_for_hangup(pairs[1][0], lambda: told.append(1))
    loop.watch_for_hangup(pairs[2][0], lambda: first_or_last(2))
    for _, theirs in pairs:
        theirs.close()
    loop.turn(10)
    assert sorted(told) in ([0, 1], [1, 2])
    for ours, _ in pairs:
        ours.close()


def test_what_can_be_read(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A socket that can be read is told on every turn until it has been read or is not watched any more."""
    ours, theirs = sockets
    loop, told = EventLoop(), list[bytes]()
    loop.watch(ours, lambda: told.append(ours.recv(3)))
    theirs.sendall(b"sixsix")
    loop.turn(10)
    loop.turn(10)
    assert told == [b"six", b"six"]
    theirs.sendall(b"more")
    loop.unwatch(ours)
    assert turns(loop, 0.1) <= 2
    assert told == [b"six", b"six"]


def test_times() -> None:
    """Callbacks come when their time has, in its order, and the loop waits for no longer than that."""
    loop, told = EventLoop(), list[str]()
    begun = time.monotonic()
    loop.later(0.1, lambda: told.append("second"))
    loop.later(0.05, lambda: told.append("first"))
    while len(told) < 2:
        loop.turn(None)
    assert told == ["first", "second"]
    assert 0.1 <= time.monotonic() - begun < 10


CHILDREN = """
import os, time
from sagemaker_inference_lite.zygote.event_loop import EventLoop

loop = EventLoop()
loop.wake_for_children()
pid = os.fork()
if pid == 0:
    time.sleep(0.2)
    os._exit(0)
loop.turn(60)
assert os.waitpid(pid, os.WNOHANG)[0] == pid
"""


def test_children_wake_it_up() -> None:
    """It wakes up when a child ends."""
    begun = time.monotonic()
    assert subprocess.run([sys.executable, "-c", CHILDREN], timeout=30).returncode == 0
    assert time.monotonic() - begun < 30


IN_CHILD = """
import os, socket
from sagemaker_inference_lite.zygote.event_loop import EventLoop

loop = EventLoop()
own, dropped, hung = (socket.socketpair() for _ in range(3))
watched = socket.socketpair()
for sock in (watched[0], own[0], hung[0], dropped[0]):
    loop.watch(sock, print)
loop.unwatch(hung[0])
loop.watch_for_hangup(hung[0], print)
loop.unwatch(own[0])
number = dropped[0].fileno()
loop.drop(dropped[0])
file = os.open("/dev/null", os.O_RDONLY)
assert file == number
pid = os.fork()
if pid == 0:
    loop.close_in_child(own[0].fileno())
    for sock in (watched[0], hung[0]):
        try:
            os.fstat(sock.fileno())
        except OSError:
            continue
        os._exit(1)
    for kept in (own[0].fileno(), own[1].fileno(), file):
        os.fstat(kept)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_what_a_child_closes() -> None:
    """A child closes what its parent watches or has watched, but its own connection, and nothing else."""
    subprocess.run([sys.executable, "-c", IN_CHILD], timeout=30, check=True)
