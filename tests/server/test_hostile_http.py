# SPDX-License-Identifier: Apache-2.0
"""Requests whose end two readers could see in different places, and others that nobody should send."""

from __future__ import annotations

import socket
import struct
import time

import pytest
import requests
from raw_http import LAST, command, connected, conversation, post, received, statuses
from running_server import Server, eventually

pytestmark = pytest.mark.once

CHUNKED = "Transfer-Encoding: chunked"
BODY = b"5\r\necho \r\n0\r\n\r\n"


def chunked(body: bytes = BODY, *headers: str, version: str = "1.1") -> bytes:
    """A request with a chunked body."""
    return post(*(headers or (CHUNKED,)), body=body, version=version)


# What is sent, and the statuses of all answers; 200 at the end is that of LAST, which follows.
CASES = {
    # RFC 9112, sections 6.1 and 6.3: how long a body is.
    "a length": (command("echo "), [200, 200]),
    "chunked": (chunked(), [200, 200]),
    "chunked in capitals": (chunked(BODY, "TRANSFER-ENCODING: CHUNKED"), [200, 200]),
    "both, the length first": (chunked(BODY, "Content-Length: 5", CHUNKED), [200]),
    "both, the length last": (chunked(BODY, CHUNKED, "Content-Length: 5"), [200]),
    "not chunked last": (chunked(BODY, "Transfer-Encoding: chunked, identity"), [400]),
    "a coding alone": (chunked(BODY, "Transfer-Encoding: gzip"), [400]),
    "no coding that there is": (chunked(BODY, "Transfer-Encoding: xchunked"), [400]),
    "no coding": (chunked(BODY, "Transfer-Encoding:"), [400]),
    "a coding before it": (chunked(BODY, "Transfer-Encoding: gzip, chunked"), [501]),
    "a coding in a line before it": (chunked(BODY, "Transfer-Encoding: gzip", CHUNKED), [501]),
    "twice": (chunked(BODY, CHUNKED, CHUNKED), [400]),
    "twice in one line": (chunked(BODY, "Transfer-Encoding: chunked, chunked"), [400]),
    "on a folded line": (chunked(BODY, "Transfer-Encoding:", " chunked"), [400]),
    "a space before the colon": (chunked(BODY, "Transfer-Encoding : chunked"), [400]),
    "a vertical tab before it": (chunked(BODY, "Transfer-Encoding: \x0bchunked"), [400]),
    "in HTTP/1.0": (chunked(BODY, CHUNKED, version="1.0"), [400]),
    "two lengths": (post("Content-Length: 5", "Content-Length: 6", body=b"echo "), [400]),
    "one length twice": (post("Content-Length: 5", "Content-Length: 5", body=b"echo "), [400]),
    "a list of lengths": (post("Content-Length: 5, 5", body=b"echo "), [400]),
    "a length with a sign": (post("Content-Length: +5", body=b"echo "), [400]),
    "a length below zero": (post("Content-Length: -5", body=b"echo "), [400]),
    "a length in other digits": (post("Content-Length: 0x5", body=b"echo "), [400]),
    "a length of no number": (post("Content-Length: 99999999999999999999", body=b"echo "), [400]),
    # RFC 9112, section 7.1: chunks.
    "an extension": (chunked(b'5 ;a="b"\r\necho \r\n0;c\r\n\r\n'), [200, 200]),
    "a trailer": (chunked(b"5\r\necho \r\n0\r\nX-A: b\r\n\r\n"), [200, 200]),
    "zeros before a size": (chunked(b"0000000005\r\necho \r\n000\r\n\r\n"), [200, 200]),
    "a size beyond 64 bits": (chunked(b"10000000000000005\r\necho \r\n0\r\n\r\n"), [400]),
    "a size beyond 32 bits": (chunked(b"100000005\r\necho \r\n0\r\n\r\n"), [400]),
    "a size of endless zeros": (chunked(b"0" * 17 + b"5\r\necho \r\n0\r\n\r\n"), [400]),
    "a size with a prefix": (chunked(b"0x5\r\necho \r\n0\r\n\r\n"), [400]),
    "a size below zero": (chunked(b"-5\r\necho \r\n0\r\n\r\n"), [400]),
    "a space behind a size": (chunked(b"5 \r\necho \r\n0\r\n\r\n"), [400]),
    "a space before a size": (chunked(b" 5\r\necho \r\n0\r\n\r\n"), [400]),
    "no size": (chunked(b"\r\necho \r\n0\r\n\r\n"), [400]),
    "a size of other digits": (chunked(b"5g\r\necho \r\n0\r\n\r\n"), [400]),
    "a size in digits of no ASCII": (chunked(b"\xb2\r\nec\r\n0\r\n\r\n"), [400]),
    "a bare line feed": (chunked(b"5\necho \n0\n\n"), [400]),
    "a bare line feed in an extension": (chunked(b"5;a\necho \r\n0\r\n\r\n"), [400]),
    "a bare carriage return": (chunked(b"5;a\rb\r\necho \r\n0\r\n\r\n"), [400]),
    "more than the size": (chunked(b"5\r\necho XX\r\n0\r\n\r\n"), [400]),
    "an extension that does not end": (chunked(b"5;" + b"a" * 2000), [400]),
    "a trailer that does not end": (chunked(b"5\r\necho \r\n0\r\n" + b"X-A: b\r\n" * 2000), [400]),
    # Heads.
    "a header's name with a space": (post("X A: 1"), [400]),
    "a header without a name": (post(": 1"), [400]),
    "a header without a colon": (post("X-A"), [400]),
    "a header with a NUL": (post("X-A: \0"), [400]),
    "a header with a carriage return": (post("X-A: 1\r2"), [400]),
    "a space before the first header": (
        b"POST /invocations HTTP/1.1\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\necho ",
        [400],
    ),
    "HTTP/2": (post(version="2.0"), [505]),
    "no protocol": (b"GET /ping\r\n\r\n", [400]),
    "another protocol": (b"GET /ping ABC/1.1\r\n\r\n", [505]),
    "a line that is too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", [414]),
    "headers that are too long": (post("X-A: " + "a" * 9000), [431]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", [400]),
    # Addresses.
    "a whole address": (b"GET http://h/ping HTTP/1.1\r\nHost: h\r\n\r\n", [200, 200]),
    "an escape that is none": (post("Content-Length: 0", path="/models/%zz/invoke"), [400]),
    "half an escape": (b"GET /ping%4 HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    "an escape that is none in a query": (post("Content-Length: 0", path="/invocations?a=%zz"), [400]),
    "no path": (b"GET ping HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    # RFC 9110, section 10.1.1, and RFC 9112, section 9.3.2: in the order of the requests.
    "an expectation that is met": (command("echo ", "Expect: 100-continue"), [100, 200, 200]),
    "an expectation in HTTP/1.0": (post("Content-Length: 5", "Expect: x", body=b"echo ", version="1.0"), [200]),
    "an expectation that is not": (command("echo ", "Expect: 200-ok"), [417]),
    "the same behind others": (command("sleep 0.2") + command("echo ", "Expect: 200-ok"), [200, 417]),
    "one that is met behind others": (
        command("sleep 0.2") + command("echo ", "Expect: 100-continue"),
        [200, 100, 200, 200],
    ),
    "behind the last": (command("echo ", "Connection: close") + command("echo "), [200]),
}


@pytest.mark.parametrize("case", CASES)
def test_each_request_has_its_answer_and_no_other(single: Server, case: str) -> None:
    """What ends where it says is answered, what does not is refused, and nothing behind that is a request."""
    sent, expected = CASES[case]
    answers = conversation(single, sent, LAST)
    assert statuses(answers) == expected, answers
    if expected[-1] >= 400:
        assert b'"message": "' in answers
        assert b"connection: close" in answers.lower()


@pytest.mark.parametrize("piece_bytes", [1, 7])
def test_a_chunked_body_may_come_in_any_pieces(single: Server, piece_bytes: int) -> None:
    """Wherever a connection cuts it, a chunked body is the same."""
    data = chunked(b"3;a=b\r\nech\r\n0004\r\no on\r\n0\r\nX-A: b\r\n\r\n") + LAST
    with connected(single) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), piece_bytes):
            client.sendall(data[start : start + piece_bytes])
        answers = received(client)
    assert statuses(answers) == [200, 200]
    assert b"\r\n\r\non" in answers


@pytest.mark.parametrize(
    "header",
    [
        "Transfer-Encoding=chunked",
        "transfer-encoding=gzip",
        "Connection=close",
        "Keep-Alive=timeout=1",
        "TE=trailers",
        "Trailer=X-A",
        "Upgrade=h2c",
        "Proxy-Connection=close",
        "Content-Length=3",
    ],
)
def test_a_handler_does_not_say_how_its_answer_is_sent(single: Server, header: str) -> None:
    """Headers about the connection, or the answer's length, are the server's own (RFC 9110, section 7.6.1)."""
    answers = conversation(single, command(f"header {header}"), LAST)
    assert statuses(answers) == [200, 200]
    name, value = header.split("=", 1)
    sent = answers.split(b"HTTP/1.1 ")[1].lower()
    assert f"\r\n{name}: {value}\r\n".lower().encode() not in sent
    assert sent.count(b"content-length: 13\r\n") == 1
    assert b"transfer-encoding" not in sent


def test_a_refusal_waits_for_its_turn(single: Server) -> None:
    """A body that is announced as too large is refused behind the answer before it, and before it has come."""
    with connected(single) as client:
        client.sendall(command("sleep 0.2") + post("Content-Length: 99999999", body=b"x"))
        answers = b""
        while b"SAGEMAKER_MAX_PAYLOAD_IN_MB" not in answers:
            answers += client.recv(1 << 16)
    assert statuses(answers) == [200, 413]


def test_requests_without_end_cost_nothing_while_one_is_answered(single: Server) -> None:
    """What a client sends ahead stays in the kernel until its turn comes: a million requests are no million objects."""
    (java,) = single.processes()["java"]
    before = java.memory_info().rss
    clients = [connected(single) for _ in range(8)]
    try:
        for client in clients:
            client.sendall(command("sleep 0.5"))
            client.settimeout(0.01)
            with pytest.raises(TimeoutError):
                client.sendall(b"GET /ping HTTP/1.1\r\n\r\n" * 1_000_000)
        assert java.memory_info().rss - before < 25 << 20
    finally:
        for client in clients:
            client.close()
    assert eventually(lambda: single.invoke("echo on").text == "on")


def log_of(server: Server, end: str, since: int) -> str:
    """What the server has printed behind a place, up to a text that must come."""
    return str(eventually(lambda: (found := server.output()[since:]) and end in found and found))


def test_clients_that_fail_are_no_traces_in_the_log(single: Server) -> None:
    """Uploads that are broken off leave nothing, addresses that cannot be read one line each."""
    since = len(single.output())
    for _ in range(10):
        with connected(single) as client:
            client.sendall(post("Content-Length: 5000000", body=bytes(300_000)))
            # Closed with a reset, as by a client that is killed.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(10):
        assert statuses(conversation(single, b"GET /ping%zz HTTP/1.1\r\n\r\n")) == [400]
    assert requests.get(single.url + "/the-end", timeout=20).status_code == 404
    lines = log_of(single, "/the-end", since).splitlines()
    assert len([line for line in lines if "/ping%zz" in line]) == 10
    assert len(lines) == 11, lines


def test_a_client_cannot_write_into_the_log(single: Server) -> None:
    """An address with what ends a line, or tells a terminal something, stands in the log as escapes."""
    since = len(single.output())
    conversation(single, b"GET /\x1b[31m\x85\xa0\x9b HTTP/1.1\r\nConnection: close\r\n\r\n")
    found = log_of(single, " 404 ", since)
    assert 'GET /\\u001b[31m\\u0085\xa0\\u009b HTTP/1.1" 404' in found
    assert found.count("\n") == 1


def test_an_answer_comes_before_its_connection_is_closed(single: Server) -> None:
    """A client that goes on sending what was refused gets the reason, not a reset."""
    with connected(single) as client:
        client.sendall(chunked(b"zz\r\n"))
        time.sleep(0.1)
        for _ in range(20):
            client.sendall(bytes(100_000))
        assert statuses(received(client)) == [400]
