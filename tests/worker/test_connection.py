# SPDX-License-Identifier: Apache-2.0
"""Messages from a connection, in whatever pieces they come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from front_end_codec import encode_load, encode_predict

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.mms import wire
from sagemaker_inference_lite.worker.connection import Connection

MIB = 1 << 20
LIMIT = 40 * MIB
LOAD = wire.Load("model", "/opt/ml/model", 1, "/code/handler.py:handle", None, "model-1")


class Peer:
    """The front end's side of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._threads: list[threading.Thread] = []

    def send(self, *pieces: bytes, end: bool = False) -> None:
        """Send pieces one by one, and hang up behind the last if so told, while the test goes on."""
        self._threads.append(threading.Thread(target=self._send, args=(pieces, end)))
        self._threads[-1].start()

    def _send(self, pieces: Sequence[bytes], end: bool) -> None:
        for piece in pieces:
            self.sock.sendall(piece)
        if end:
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, Peer]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    peer = Peer(theirs)
    yield ours, peer
    ours.close()
    peer.close()


def requests_of(*bodies: bytes) -> list[wire.Request]:
    """A request with each of these bodies."""
    return [
        wire.Request(f"id-{place}", {"Accept": "*/*"}, [wire.Parameter("body", "text/csv", body)])
        for place, body in enumerate(bodies)
    ]


def single_bytes(frame: bytes) -> list[bytes]:
    """A frame byte by byte."""
    return [frame[place : place + 1] for place in range(len(frame))]


def test_a_message(sockets: tuple[socket.socket, Peer]) -> None:
    """What was sent is received, and None at the end of the stream."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    peer.send(encode_load(LOAD))
    assert connection.receive() == LOAD
    peer.send(encode_predict(requests_of(b"1", b"2")))
    assert connection.receive() == requests_of(b"1", b"2")
    peer.send(end=True)
    assert connection.receive() is None
    assert connection.receive() is None


def test_byte_by_byte(sockets: tuple[socket.socket, Peer]) -> None:
    """A message may come byte by byte; its beginning is noted once."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    begun: list[str] = []
    for body in (b"first", b"second"):
        peer.send(*single_bytes(encode_predict(requests_of(body))))
        assert connection.receive(lambda: begun.append("begun")) == requests_of(body)
        assert begun == ["begun"]
        begun.clear()


def test_the_beginning_is_noted_at_once(sockets: tuple[socket.socket, Peer]) -> None:
    """That a message has begun is known while the rest of it is still to come."""
    ours, peer = sockets
    frame = encode_predict(requests_of(b"x"))
    peer.send(frame[:1])
    assert Connection(ours, LIMIT).receive(lambda: peer.send(frame[1:])) == requests_of(b"x")


def test_a_large_body(sockets: tuple[socket.socket, Peer]) -> None:
    """A body of 30 MB comes whole, and small messages before and after it as well."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    body = bytes(range(256)) * (30 * MIB // 256)
    for expected in (b"small", body, b"", body[: 1 << 16], b"small"):
        peer.send(encode_predict(requests_of(expected)))
        assert connection.receive() == requests_of(expected)


@pytest.mark.parametrize("size", range((1 << 16) - 60, (1 << 16) + 8, 4))
def test_around_the_size_of_the_buffer(sockets: tuple[socket.socket, Peer], size: int) -> None:
    """A message that just fits into the first read, and one that just does not, are the same to the reader."""
    ours, peer = sockets
    peer.send(encode_predict(requests_of(bytes(size))))
    assert Connection(ours, LIMIT).receive() == requests_of(bytes(size))


@pytest.mark.parametrize("cut", [1, 4, 5, 20, -1])
def test_end_inside_a_message(sockets: tuple[socket.socket, Peer], cut: int) -> None:
    """A stream that ends inside a message is an error that says how much of it had come."""
    ours, peer = sockets
    frame = encode_predict(requests_of(b"body"))[:cut]
    peer.send(frame, end=True)
    with pytest.raises(WireError, match=f"the stream ended after {len(frame)} bytes of a message"):
        Connection(ours, LIMIT).receive()


def test_nonsense(sockets: tuple[socket.socket, Peer]) -> None:
    """What is no message is refused as soon as that is seen."""
    ours, peer = sockets
    peer.send(b"GET / HTTP/1.1\r\n")
    with pytest.raises(WireError, match="0x47"):
        Connection(ours, LIMIT).receive()


def test_a_second_message_before_the_answer(sockets: tuple[socket.socket, Peer]) -> None:
    """A message that comes behind another, which has not been answered, is refused."""
    ours, peer = sockets
    peer.send(encode_predict(requests_of(b"1")) * 2)
    with pytest.raises(WireError, match="follow a message that has not been answered"):
        Connection(ours, LIMIT).receive()


def test_too_large(sockets: tuple[socket.socket, Peer]) -> None:
    """A message that announces more than the limit is refused before it has come, and takes no memory."""
    ours, peer = sockets
    peer.send(encode_predict(requests_of(bytes(2 * MIB)))[:1000])
    with pytest.raises(WireError, match=f"the limit is {MIB}"):
        Connection(ours, MIB).receive()


# -- what is there already --------------------------------------------------------------------------------------------


def test_available(sockets: tuple[socket.socket, Peer]) -> None:
    """On a socket that does not block, a message is given when its last byte has come, and nobody waits for it."""
    ours, peer = sockets
    ours.setblocking(False)
    connection = Connection(ours, LIMIT)
    with pytest.raises(BlockingIOError):
        connection.receive_available()
    *pieces, last = single_bytes(encode_load(LOAD))
    for piece in pieces:
        peer.sock.sendall(piece)
        assert connection.receive_available() is None
    with pytest.raises(BlockingIOError):
        connection.receive_available()
    peer.sock.sendall(last)
    assert connection.receive_available() == LOAD


@pytest.mark.parametrize("cut", [0, 7])
def test_end_of_what_is_available(sockets: tuple[socket.socket, Peer], cut: int) -> None:
    """There the end of the stream is an error in any case: somebody waits for the message."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    peer.sock.sendall(encode_load(LOAD)[:cut])
    peer.sock.shutdown(socket.SHUT_WR)
    if cut:
        assert connection.receive_available() is None
    with pytest.raises(WireError, match=f"ended after {cut} bytes"):
        connection.receive_available()


def test_from_one_way_to_the_other(sockets: tuple[socket.socket, Peer]) -> None:
    """A connection whose LOAD was read without blocking goes on with it, as in a process forked in between."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    peer.send(encode_load(LOAD))
    while connection.receive_available() is None:
        pass
    peer.send(encode_predict(requests_of(b"1")))
    assert connection.receive() == requests_of(b"1")
