# SPDX-License-Identifier: Apache-2.0
"""HTTP as bytes: requests that no library would send, and all that comes back."""

from __future__ import annotations

import re
import socket

from running_server import Server

# The end of a conversation: answered if the connection is still one on which requests are read.
LAST = b"GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def connected(server: Server, seconds: float = 20.0) -> socket.socket:
    """A connection to the server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=seconds)


def post(*headers: str, body: bytes = b"", path: str = "/invocations", version: str = "1.1") -> bytes:
    """A POST with these headers, and whatever follows them."""
    lines = [f"POST {path} HTTP/{version}", "Host: h", "Content-Type: text/plain", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def command(text: str, *headers: str) -> bytes:
    """A request for the commanded handler."""
    return post(f"Content-Length: {len(text)}", *headers, body=text.encode())


def received(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def conversation(server: Server, *pieces: bytes) -> bytes:
    """All that comes back on a connection that sends these at once, until the server closes it."""
    with connected(server) as client:
        client.sendall(b"".join(pieces))
        return received(client)


def statuses(answers: bytes) -> list[int]:
    """The statuses in what came back."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
