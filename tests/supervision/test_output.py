# SPDX-License-Identifier: Apache-2.0
"""Passing on what other processes print, however they print it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from line import Line
from running_server import eventually

from sagemaker_inference_lite.supervision import output
from sagemaker_inference_lite.supervision.output import LinePrefixer, OutputRelay

MIB = 1 << 20
SECONDS = 10


# -- lines ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.text("ab\n\r", max_size=9).map(str.encode), max_size=8))
def test_any_split_gives_the_same(pieces: list[bytes]) -> None:
    """However a text comes in pieces, each of its lines comes out whole and once, with the prefix before it."""
    prefixer = LinePrefixer("[m] ")
    found = b"".join([*map(prefixer.feed, pieces), prefixer.finish()])
    whole = b"".join(pieces)
    lines = whole.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert found == b"".join(b"[m] " + line + b"\n" for line in lines)


def test_what_has_no_end_is_kept() -> None:
    """A line is passed on when it is whole; what is left at the end becomes a line."""
    prefixer = LinePrefixer("> ")
    assert prefixer.feed(b"a\nb") == b"> a\n"
    assert prefixer.feed(b"") == b""
    assert prefixer.finish() == b"> b\n"
    assert prefixer.finish() == b""


@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        ("[model-1] ", "[model-1] "),
        ("[a\nb] ", "[a\\nb] "),
        ("[\r\x1b[2J] ", "[\\r\\x1b[2J] "),
        ("[a\u2028b] ", "[a\\u2028b] "),
        ("[é] ", "[é] "),
    ],
)
def test_prefixes_cannot_forge_lines(prefix: str, shown: str) -> None:
    """A name that a client chose cannot begin a line of its own, nor command a terminal."""
    assert LinePrefixer(prefix).feed(b"x\n") == f"{shown}x\n".encode()


def test_a_line_that_never_ends() -> None:
    """What comes without an end is passed on in pieces, of which only one is held at a time."""
    prefixer = LinePrefixer("> ")
    pieces = [prefixer.feed(b"x" * 65536) for _ in range(40)]
    pieces = [piece for piece in pieces if piece] + [prefixer.finish()]
    assert all(piece.startswith(b"> x") and piece.endswith(b"x\n") for piece in pieces)
    assert all(len(piece) < 1.2 * MIB for piece in pieces)
    assert b"".join(pieces).count(b"x") == 40 * 65536


# -- pipes ------------------------------------------------------------------------------------------------------------


class Destination:
    """Where a relay copies to: a pipe, and what has come out of it."""

    def __init__(self) -> None:
        self.source, self.descriptor = os.pipe()
        self.text = b""

    def read_until(self, end: bytes) -> bytes:
        """All that has come, once it ends so."""
        while not self.text.endswith(end):
            self._read()
        return self.text

    def read_until_there_are(self, count: int, piece: bytes) -> None:
        """Read until so many of these have come."""
        missing = count - self.text.count(piece)
        while missing > 0:
            missing -= self._read().count(piece)

    def _read(self) -> bytes:
        readable, _, _ = select.select([self.source], [], [], SECONDS)
        assert readable, self.text[-200:]
        read = os.read(self.source, 65536)
        self.text += read
        return read

    def close(self) -> None:
        """Hang up on both sides."""
        os.close(self.descriptor)
        self.hang_up()

    def hang_up(self) -> None:
        """Read no more."""
        if self.source >= 0:
            os.close(self.source)
        self.source = -1


@pytest.fixture
def destination() -> Iterator[Destination]:
    """Where a test's relay copies to. Closed after the relay, whose thread may have to be shaken off."""
    destination = Destination()
    yield destination
    destination.close()


@pytest.fixture
def relay() -> Iterator[OutputRelay]:
    """A relay that copies."""
    relay = OutputRelay()
    relay.start()
    yield relay
    relay.close(SECONDS)


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open."""
    return Path(f"/proc/self/fd/{descriptor}").exists()


def test_lines_of_several_sources(relay: OutputRelay, destination: Destination) -> None:
    """Lines of several processes arrive whole under the name of each, and each source is closed at its end."""
    sources = []
    for name in ("a", "b"):
        source, sink = os.pipe()
        program = f"import os\nfor n in range(500): os.write(1, b'{name}' * 50); os.write(1, b' %d\\n' % n)"
        child = subprocess.Popen([sys.executable, "-c", program], stdout=sink)
        os.close(sink)
        relay.add(source, f"[{name}] ", destination.descriptor)
        sources.append((child, source))
    destination.read_until_there_are(1000, b"\n")
    lines = destination.text.splitlines()
    for name in ("a", "b"):
        mine = [line for line in lines if line.startswith(f"[{name}] ".encode())]
        assert mine == [f"[{name}] {name * 50} {number}".encode() for number in range(500)]
    for child, source in sources:
        assert child.wait(SECONDS) == 0
        eventually(lambda: not is_open(source))  # noqa: B023  # called at once


def test_the_last_line_needs_no_end(relay: OutputRelay, destination: Destination) -> None:
    """What a process printed last is passed on when it has ended, as a line."""
    source, sink = os.pipe()
    relay.add(source, "> ", destination.descriptor)
    os.write(sink, b"one\ntw")
    assert destination.read_until(b"\n") == b"> one\n"
    os.write(sink, b"o")
    os.close(sink)
    assert destination.read_until(b"two\n") == b"> one\n> two\n"


def test_a_long_line(relay: OutputRelay, destination: Destination, line: Line) -> None:
    """Megabytes without the end of a line do not hold up who prints them."""
    source, sink = os.pipe()
    child = subprocess.Popen(line.argv("print_line", 3 * MIB), stdout=sink, pass_fds=[line.descriptor])
    os.close(sink)
    relay.add(source, "> ", destination.descriptor)
    destination.read_until_there_are(3 * MIB, b"x")
    assert destination.text.startswith(b"> x")
    assert 3 <= destination.text.count(b"\n> x") + 1 <= 4
    assert child.wait(SECONDS) == 0


def test_nobody_reads_any_more(relay: OutputRelay, line: Line, destination: Destination) -> None:
    """Where nobody reads what is passed on, those who print are not held up and not broken."""
    destination.hang_up()
    source, sink = os.pipe()
    relay.add(source, "> ", destination.descriptor)
    child = subprocess.Popen(line.argv("print_line", 3 * MIB), stdout=sink, pass_fds=[line.descriptor])
    os.close(sink)
    assert child.wait(SECONDS) == 0


def test_closing_empties_the_pipes(destination: Destination) -> None:
    """Whatever was printed before close() is passed on, from sources that go on as well; all are closed."""
    relay = OutputRelay()
    relay.start()
    pipes = [os.pipe() for _ in range(3)]
    for number, (source, sink) in enumerate(pipes):
        os.write(sink, b"last words\n" * 50 + b"and then")
        relay.add(source, f"{number} ", destination.descriptor)
    relay.close(SECONDS)
    found = destination.read_until(b"and then\n").splitlines()
    for number, (source, sink) in enumerate(pipes):
        assert found.count(b"%d last words" % number) == 50
        assert found.count(b"%d and then" % number) == 1
        assert not is_open(source)
        os.close(sink)


@pytest.mark.parametrize("read_bytes", [1 << 10, 1 << 16])
def test_closing_on_one_who_prints_forever(monkeypatch: pytest.MonkeyPatch, line: Line, read_bytes: int) -> None:
    """A process that prints without end, faster even than it is read, does not keep close() from ending."""
    monkeypatch.setattr(output, "_READ_BYTES", read_bytes)
    relay = OutputRelay()
    relay.start()
    source, sink = os.pipe()
    child = subprocess.Popen(line.argv("print_forever"), stdout=sink, pass_fds=[line.descriptor])
    os.close(sink)
    with open(os.devnull, "wb") as nowhere:
        relay.add(source, "> ", nowhere.fileno())
        assert line.read() == b"ready\n"
        begun = time.monotonic()
        relay.close(SECONDS)
        assert time.monotonic() - begun < SECONDS / 2
    assert not is_open(source)
    assert child.wait(SECONDS) != 0  # a broken pipe


def test_closing_while_nobody_reads(destination: Destination) -> None:
    """Where whoever reads the output is stuck, close() takes no longer than it may."""
    relay = OutputRelay()
    relay.start()
    source, sink = os.pipe()
    relay.add(source, "> ", destination.descriptor)
    os.set_blocking(sink, False)
    eventually(lambda: not write_some(sink))  # both pipes are full, and the relay waits
    begun = time.monotonic()
    relay.close(0.1)
    assert 0.09 <= time.monotonic() - begun < 2
    os.close(sink)
    destination.hang_up()
    relay.close(SECONDS)
    assert not is_open(source)


def write_some(sink: int) -> bool:
    """Whether there was room for more."""
    try:
        return bool(os.write(sink, b"more\n" * 1000))
    except BlockingIOError:
        return False


def test_closing_what_was_not_started() -> None:
    """A relay that never began to copy can be closed."""
    OutputRelay().close(SECONDS)
