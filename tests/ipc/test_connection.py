# SPDX-License-Identifier: Apache-2.0
"""Messages from a connection, in whatever pieces they come, and answers to them."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from front_end_codec import INT, Prediction, encode_headers, encode_load, encode_requests, field, frame, predictions_of

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.ipc.connection import Connection

MIB = 1 << 20
LIMIT = 40 * MIB
SECONDS = 10
LOAD = wire.Load("model", "/opt/ml/model", 1, "/code/handler.py:handle", None)
LARGE = bytes(range(256)) * (wire.LARGE_BODY_BYTES // 256)


class Peer:
    """The front end's side of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._threads: list[threading.Thread] = []

    def send(self, *pieces: bytes, end: bool = False) -> None:
        """Send pieces, each when the one before it was read, and hang up behind the last if so told.

        The test goes on meanwhile.
        """
        self._threads.append(threading.Thread(target=self._send, args=(pieces, end)))
        self._threads[-1].start()

    def _send(self, pieces: Sequence[bytes], end: bool) -> None:
        deadline = time.monotonic() + SECONDS
        with suppress(OSError):  # the test may be content with less
            for piece in pieces:
                while self._unread() and time.monotonic() < deadline:
                    time.sleep(0)
                self.sock.sendall(piece)
            if end:
                self.sock.shutdown(socket.SHUT_WR)

    def _unread(self) -> int:
        """How much memory the kernel holds for what was not read (unix(7), SIOCOUTQ)."""
        count: int = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]
        return count

    def receive(self, size: int) -> bytes:
        """So many bytes."""
        return self.sock.recv(size, socket.MSG_WAITALL)

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        for thread in self._threads:
            thread.join(SECONDS)


def pair(kind: socket.SocketKind = socket.SOCK_STREAM) -> tuple[socket.socket, Peer]:
    """Both ends of a connection. They block, as a worker's do: Python's own timeouts would have them not to."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for sock in (ours, theirs):
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SECONDS, 0))
    return ours, Peer(theirs)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, Peer]]:
    """Both ends of a connection."""
    ours, peer = pair()
    yield ours, peer
    ours.close()
    peer.close()


def requests_of(*bodies: bytes) -> list[wire.Request]:
    """A request with each of these bodies."""
    return [
        wire.Request(f"id-{place}", encode_headers([("Accept", "*/*")]), [wire.Parameter("body", "text/csv", body)])
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
    peer.send(encode_requests(requests_of(b"1", b"2")))
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
        peer.send(*single_bytes(encode_requests(requests_of(body))))
        assert connection.receive(lambda: begun.append("begun")) == requests_of(body)
        assert begun == ["begun"]
        begun.clear()


def test_the_beginning_is_noted_at_once(sockets: tuple[socket.socket, Peer]) -> None:
    """That a message has begun is known while the rest of it is still to come."""
    ours, peer = sockets
    whole = encode_requests(requests_of(b"x"))
    peer.send(whole[:1])
    assert Connection(ours, LIMIT).receive(lambda: peer.send(whole[1:])) == requests_of(b"x")


def test_a_very_large_body(sockets: tuple[socket.socket, Peer]) -> None:
    """A body of 30 MB comes whole, and small messages before and after it as well."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    body = LARGE * 30
    for expected in (b"small", body, b"", body[: 1 << 16], b"small"):
        peer.send(encode_requests(requests_of(expected)))
        assert connection.receive() == requests_of(expected)


@pytest.mark.parametrize("size", range(wire.LARGE_BODY_AT - 120, wire.LARGE_BODY_AT + 8, 4))
def test_around_the_size_of_the_buffer(sockets: tuple[socket.socket, Peer], size: int) -> None:
    """A message that just fits into the first read, and one that just does not, are the same to the reader."""
    ours, peer = sockets
    peer.send(encode_requests(requests_of(bytes(size))))
    assert Connection(ours, LIMIT).receive() == requests_of(bytes(size))


# -- large bodies -----------------------------------------------------------------------------------------------------


def bodies_of(message: wire.Message | None) -> list[bytes]:
    """The bodies of requests, each of them the last parameter."""
    assert isinstance(message, list)
    return [request.parameters[-1].value for request in message]


@pytest.mark.parametrize("padding", [None, 0, 1, wire.LARGE_BODY_AT])
@pytest.mark.parametrize("size", [wire.LARGE_BODY_BYTES, wire.LARGE_BODY_BYTES + 1, 3 * wire.LARGE_BODY_BYTES])
def test_a_large_body(sockets: tuple[socket.socket, Peer], size: int, padding: int | None) -> None:
    """A large body is bytes, whether it begins where it is best read or anywhere else."""
    ours, peer = sockets
    expected = requests_of((LARGE * 4)[:size])
    connection = Connection(ours, LIMIT)
    for _ in range(2):
        peer.send(encode_requests(expected, padding))
        message = connection.receive()
        assert message == expected
        assert [type(body) for body in bodies_of(message)] == [bytes]


AROUND = (1, 7, 8, 9, 17, 100, wire.LARGE_BODY_AT - 1, wire.LARGE_BODY_AT, wire.LARGE_BODY_AT + 1, MIB // 2)


@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("cut", [*AROUND, -1])
def test_a_large_body_in_pieces(sockets: tuple[socket.socket, Peer], cut: int, padding: int | None) -> None:
    """It is no matter where its frame was split on its way."""
    ours, peer = sockets
    whole = encode_requests(requests_of(LARGE), padding)
    peer.send(whole[:cut], whole[cut:])
    assert Connection(ours, LIMIT).receive() == requests_of(LARGE)


def test_a_large_body_in_many_pieces(sockets: tuple[socket.socket, Peer]) -> None:
    """Nor is it into how many pieces."""
    ours, peer = sockets
    whole = encode_requests(requests_of(LARGE))
    peer.send(*(whole[place : place + 4999] for place in range(0, len(whole), 4999)))
    assert Connection(ours, LIMIT).receive() == requests_of(LARGE)


def test_a_large_body_is_written_once(sockets: tuple[socket.socket, Peer]) -> None:
    """Where it begins as the front end has it begin, a large body takes no more memory than its own size."""
    ours, peer = sockets
    body = LARGE * 8
    whole = encode_requests(requests_of(body))
    connection = Connection(ours, LIMIT)
    tracemalloc.start()
    try:
        peer.send(whole)
        message = connection.receive()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bodies_of(message) == [body]
    assert len(body) < peak < len(body) + MIB


def test_a_large_body_behind_other_inputs(sockets: tuple[socket.socket, Peer]) -> None:
    """Query parameters and headers may come before a large body, as much of them as there is."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    for size in (10, wire.LARGE_BODY_AT - 200, wire.LARGE_BODY_AT, wire.LARGE_BODY_AT + 200):
        parameters = [wire.Parameter("query", "", bytes(size)), wire.Parameter("body", "text/csv", LARGE)]
        expected = [wire.Request("id", encode_headers([("a", "b" * 100)]), parameters)]
        peer.send(encode_requests(expected))
        assert connection.receive() == expected


def test_a_large_field_before_the_last(sockets: tuple[socket.socket, Peer]) -> None:
    """A message may go on behind its large field."""
    ours, peer = sockets
    parameters = [wire.Parameter("file", "text/csv", LARGE), wire.Parameter("name", "text/plain", b"n")]
    expected = [wire.Request("id", b"", parameters)]
    peer.send(encode_requests(expected))
    assert Connection(ours, LIMIT).receive() == expected


@pytest.mark.parametrize(
    "bodies",
    [
        (LARGE, LARGE),
        (b"small", LARGE, b""),
        (LARGE, b"small"),
        (b"x" * wire.LARGE_BODY_AT, LARGE),
        (b"x" * 40_000,) * 4,
        (LARGE, LARGE[:99], LARGE * 2),
    ],
    ids=lambda bodies: "-".join(str(len(body)) for body in bodies),
)
def test_a_large_batch(sockets: tuple[socket.socket, Peer], bodies: tuple[bytes, ...]) -> None:
    """A batch may hold large bodies in any place, and each of them is bytes."""
    ours, peer = sockets
    peer.send(encode_requests(requests_of(*bodies)))
    message = Connection(ours, LIMIT).receive()
    assert message == requests_of(*bodies)
    assert {type(body) for body in bodies_of(message)} == {bytes}


def test_a_batch_around_the_size_of_the_buffer(sockets: tuple[socket.socket, Peer]) -> None:
    """The first read may end within any field of a batch, and within the length of any."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    between = len(encode_requests(requests_of(b"", b""))) - len(encode_requests(requests_of(b"")))
    for before in range(2 * between):
        bodies = (bytes(wire.LARGE_BODY_AT - between - before), b"second", bytes(300))
        peer.send(encode_requests(requests_of(*bodies)))
        assert connection.receive() == requests_of(*bodies)


def test_a_batch_of_very_many(sockets: tuple[socket.socket, Peer]) -> None:
    """A batch may be larger than the first read because of how many small requests it has."""
    ours, peer = sockets
    expected = [wire.Request("", b"", [])] * 10_000
    peer.send(encode_requests(expected))
    assert Connection(ours, LIMIT).receive() == expected


# -- what is no message -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 20, -1])
def test_end_inside_a_message(sockets: tuple[socket.socket, Peer], cut: int) -> None:
    """A stream that ends inside a message is an error that says how much of it had come."""
    ours, peer = sockets
    whole = encode_requests(requests_of(b"body"))[:cut]
    peer.send(whole, end=True)
    with pytest.raises(WireError, match=f"the stream ended after {len(whole)} bytes of a message"):
        Connection(ours, LIMIT).receive()


@pytest.mark.parametrize("cut", [wire.LARGE_BODY_AT - 1, wire.LARGE_BODY_AT, wire.LARGE_BODY_AT + 1, MIB, -1])
def test_end_inside_a_large_message(sockets: tuple[socket.socket, Peer], cut: int) -> None:
    """The same where it ends inside a large body."""
    ours, peer = sockets
    whole = encode_requests(requests_of(LARGE))[:cut]
    peer.send(whole, end=True)
    with pytest.raises(WireError, match=f"the stream ended after {len(whole)} bytes of a message"):
        Connection(ours, LIMIT).receive()


def test_nonsense(sockets: tuple[socket.socket, Peer]) -> None:
    """What is no message is refused as soon as that is seen."""
    ours, peer = sockets
    peer.send(b"GET / HTTP/1.1\r\n")
    with pytest.raises(WireError, match=f"the limit is {LIMIT}"):
        Connection(ours, LIMIT).receive()


@pytest.mark.parametrize("tail", [b"", LARGE], ids=["small", "large"])
def test_nonsense_of_a_possible_length(sockets: tuple[socket.socket, Peer], tail: bytes) -> None:
    """A frame that is none is refused however large it is."""
    ours, peer = sockets
    peer.send(frame(b"R", INT.pack(1), field(b""), INT.pack(-1), tail))
    with pytest.raises(WireError, match="a field of -1 bytes"):
        Connection(ours, LIMIT).receive()


@pytest.mark.parametrize("padding", [None, 0])
def test_a_second_message_before_the_answer(sockets: tuple[socket.socket, Peer], padding: int | None) -> None:
    """A message that comes behind another, which has not been answered, is refused."""
    ours, peer = sockets
    peer.send(encode_requests(requests_of(b"1"), padding) * 2)
    with pytest.raises(WireError, match="follow a message that has not been answered"):
        Connection(ours, LIMIT).receive()


def test_too_large(sockets: tuple[socket.socket, Peer]) -> None:
    """A message that announces more than the limit is refused before it has come, and takes no memory."""
    ours, peer = sockets
    peer.send(encode_requests(requests_of(bytes(2 * MIB)))[:1000])
    with pytest.raises(WireError, match=f"the limit is {MIB}"):
        Connection(ours, MIB).receive()


def test_the_limit_may_be_raised(sockets: tuple[socket.socket, Peer]) -> None:
    """A connection takes as much as was allowed last, to the byte."""
    ours, peer = sockets
    whole = encode_requests(requests_of(LARGE))
    connection = Connection(ours, 100)
    connection.allow(len(whole))
    peer.send(whole)
    assert connection.receive() == requests_of(LARGE)
    connection.allow(len(whole) - 1)
    peer.send(whole[:100])
    with pytest.raises(WireError, match=f"the limit is {len(whole) - 1}"):
        connection.receive()


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 10, (1 << 17) - 100, 1 << 17, 5 * MIB])
def test_an_answer(sockets: tuple[socket.socket, Peer], size: int, kind: type[wire.Buffer]) -> None:
    """An answer comes whole, of whatever size and kind its body is, and another may follow."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    body = (LARGE * 5)[:size]
    pieces = wire.encode_predictions([wire.Prediction(kind(body), "text/csv"), wire.Prediction(b"second")])
    for _ in range(2):
        sender = threading.Thread(target=connection.send, args=(pieces,))
        sender.start()
        answer = peer.receive(sum(map(len, pieces)))
        sender.join(SECONDS)
        assert predictions_of([answer]) == [
            Prediction("text/csv", 200, {}, body),
            Prediction("", 200, {}, b"second"),
        ]


def test_a_small_answer_is_sent_at_once() -> None:
    """The front end finds a small answer whole in its first read; a large one is sent as it lies in memory."""
    ours, peer = pair(socket.SOCK_SEQPACKET)
    with ours, peer.sock:
        connection = Connection(ours, LIMIT)
        pieces = wire.encode_predictions([wire.Prediction(b"a" * 10_000), wire.Prediction(b"b")])
        connection.send(pieces)
        assert peer.sock.recv(MIB) == b"".join(pieces)
        pieces = wire.encode_predictions([wire.Prediction(bytes(100_000))] * 2)
        sender = threading.Thread(target=connection.send, args=(pieces,))
        sender.start()
        assert [peer.sock.recv(MIB) for _ in pieces] == pieces
        sender.join(SECONDS)


@pytest.mark.parametrize("size", [10, MIB])
def test_an_answer_that_nobody_awaits(sockets: tuple[socket.socket, Peer], size: int) -> None:
    """That the front end is gone is an error of the operating system's."""
    ours, peer = sockets
    peer.close()
    with pytest.raises(OSError, match="Broken pipe"):
        Connection(ours, LIMIT).send(wire.encode_predictions([wire.Prediction(bytes(size))]))


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


@pytest.mark.parametrize("cut", [0, 7, 30])
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


def test_more_than_can_be_available(sockets: tuple[socket.socket, Peer]) -> None:
    """There a message is small: one that is not is refused before it has come, whatever is allowed otherwise."""
    ours, peer = sockets
    peer.sock.sendall(encode_requests(requests_of(LARGE))[:100])
    with pytest.raises(WireError, match=f"the limit is {wire.LARGE_BODY_AT}"):
        Connection(ours, LIMIT).receive_available()


def test_from_one_way_to_the_other(sockets: tuple[socket.socket, Peer]) -> None:
    """A connection whose LOAD was read without blocking goes on with it, as in a process forked in between."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    peer.send(encode_load(LOAD))
    while connection.receive_available() is None:
        pass
    peer.send(encode_requests(requests_of(b"1")))
    assert connection.receive() == requests_of(b"1")


def test_it_tells_once_when_nothing_has_come(sockets: tuple[socket.socket, Peer]) -> None:
    """What is to be done after a while of quiet is done once, and messages are whole however slowly they come."""
    ours, peer = sockets
    connection = Connection(ours, LIMIT)
    told = []
    for body in (b"short", LARGE):
        connection.tell_when_quiet(0.05, lambda: told.append(time.monotonic()))
        sent = requests_of(body)
        message = encode_requests(sent)
        rest = threading.Timer(0.3, peer.sock.sendall, [message[-3:]])
        rest.start()
        peer.send(message[:-3])
        received = connection.receive()
        rest.join()
        assert isinstance(received, list)
        assert [bytes(parameter.value) for parameter in received[0].parameters] == [body]
        assert len(told) == 1
        told.clear()
