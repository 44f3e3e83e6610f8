# SPDX-License-Identifier: Apache-2.0
"""Passing on what other processes print, however they print it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from destination import Destination, deadline
from hypothesis import given
from hypothesis import strategies as st
from line import Line
from running_server import eventually

from sagemaker_inference_lite.supervision import output
from sagemaker_inference_lite.supervision.line_writer import LineWriter
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


@pytest.fixture
def writer(destination: Destination) -> Iterator[LineWriter]:
    """A writer that writes there."""
    writer = LineWriter(destination.descriptor)
    writer.start()
    yield writer
    destination.hang_up()
    assert writer.end(deadline())


@pytest.fixture
def relay() -> Iterator[OutputRelay]:
    """A relay that passes lines on."""
    relay = OutputRelay()
    relay.start()
    yield relay
    relay.close(deadline())


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open."""
    return Path(f"/proc/self/fd/{descriptor}").exists()


def test_lines_of_several_sources(relay: OutputRelay, writer: LineWriter, destination: Destination) -> None:
    """Lines of several processes arrive whole under the name of each, and each source is closed at its end."""
    sources = []
    for name in ("a", "b"):
        source, sink = os.pipe()
        program = f"import os\nfor n in range(500): os.write(1, b'{name}' * 50); os.write(1, b' %d\\n' % n)"
        child = subprocess.Popen([sys.executable, "-c", program], stdout=sink)
        os.close(sink)
        relay.add(source, f"[{name}] ", writer)
        sources.append((child, source))
    destination.read_until_there_are(1000, b"\n")
    lines = destination.text.splitlines()
    for name in ("a", "b"):
        mine = [line for line in lines if line.startswith(f"[{name}] ".encode())]
        assert mine == [f"[{name}] {name * 50} {number}".encode() for number in range(500)]
    for child, source in sources:
        assert child.wait(SECONDS) == 0
        eventually(lambda: not is_open(source))  # noqa: B023  # called at once


def test_the_last_line_needs_no_end(relay: OutputRelay, writer: LineWriter, destination: Destination) -> None:
    """What a process printed last is passed on when it has ended, as a line."""
    source, sink = os.pipe()
    relay.add(source, "> ", writer)
    os.write(sink, b"one\ntw")
    assert destination.read_until(b"\n") == b"> one\n"
    os.write(sink, b"o")
    os.close(sink)
    assert destination.read_until(b"two\n") == b"> one\n> two\n"


def test_a_long_line(relay: OutputRelay, writer: LineWriter, destination: Destination, line: Line) -> None:
    """Megabytes without the end of a line do not hold up who prints them."""
    source, sink = os.pipe()
    child = subprocess.Popen(line.argv("print_line", 3 * MIB), stdout=sink, pass_fds=[line.descriptor])
    os.close(sink)
    relay.add(source, "> ", writer)
    destination.read_until_there_are(3 * MIB, b"x")
    assert destination.text.startswith(b"> x")
    assert 3 <= destination.text.count(b"\n> x") + 1 <= 4
    assert child.wait(SECONDS) == 0


def test_a_source_is_emptied_whoever_reads(relay: OutputRelay, destination: Destination, line: Line) -> None:
    """Where nobody reads what is passed on, those who print are not held up, and what fits is there later."""
    asleep = LineWriter(destination.descriptor, MIB)
    asleep.start()
    source, sink = os.pipe()
    relay.add(source, "> ", asleep)
    child = subprocess.Popen(line.argv("print_line", 9 * MIB), stdout=sink, pass_fds=[line.descriptor])
    os.close(sink)
    assert child.wait(SECONDS) == 0
    destination.hang_up()
    assert asleep.end(deadline())


def test_settling(relay: OutputRelay, writer: LineWriter, destination: Destination) -> None:
    """All lines that were printed before are handed on; what has no end yet may still get one."""
    source, sink = os.pipe()
    relay.add(source, "> ", writer)
    os.write(sink, b"one\n" * 10_000 + b"tw")
    assert relay.settle(deadline())
    assert not select.select([source], [], [], 0)[0]
    os.write(sink, b"o\n")
    os.close(sink)
    assert destination.read_until(b"two\n") == b"> one\n" * 10_000 + b"> two\n"


def test_closing_empties_the_pipes(writer: LineWriter, destination: Destination) -> None:
    """Whatever was printed before close() is passed on, from sources that go on as well; all are closed."""
    relay = OutputRelay()
    relay.start()
    pipes = [os.pipe() for _ in range(3)]
    for number, (source, sink) in enumerate(pipes):
        os.write(sink, b"last words\n" * 50 + b"and then")
        relay.add(source, f"{number} ", writer)
    assert relay.close(deadline())
    assert writer.settle(deadline())
    found = destination.read_until(b"and then\n").splitlines()
    for number, (source, sink) in enumerate(pipes):
        assert found.count(b"%d last words" % number) == 50
        assert found.count(b"%d and then" % number) == 1
        assert not is_open(source)
        os.close(sink)


@pytest.mark.parametrize("read_bytes", [1 << 10, 1 << 16])
def test_closing_on_one_who_prints_forever(
    monkeypatch: pytest.MonkeyPatch, writer: LineWriter, line: Line, read_bytes: int
) -> None:
    """A process that prints without end, faster even than it is read, does not keep close() from ending."""
    monkeypatch.setattr(output, "_READ_BYTES", read_bytes)
    relay = OutputRelay()
    relay.start()
    source, sink = os.pipe()
    child = subprocess.Popen(line.argv("print_forever"), stdout=sink, pass_fds=[line.descriptor])
    os.close(sink)
    relay.add(source, "> ", writer)
    assert line.read() == b"ready\n"
    assert relay.settle(deadline(SECONDS / 2))
    assert relay.close(deadline(SECONDS / 2))
    assert not is_open(source)
    assert child.wait(SECONDS) != 0  # a broken pipe


def test_a_relay_that_cannot_read_goes_on(
    monkeypatch: pytest.MonkeyPatch, relay: OutputRelay, writer: LineWriter, destination: Destination
) -> None:
    """Where memory runs out in the relay itself, it tries again: nobody else empties the pipes."""
    failures = iter([MemoryError(), MemoryError()])
    feed = LinePrefixer.feed

    def fail_first(prefixer: LinePrefixer, data: bytes) -> bytes:
        error = next(failures, None)
        if error is not None:
            raise error
        return feed(prefixer, data)

    monkeypatch.setattr(LinePrefixer, "feed", fail_first)
    source, sink = os.pipe()
    relay.add(source, "> ", writer)
    for word in (b"lost\n", b"lost too\n", b"found\n"):
        os.write(sink, word)
        eventually(lambda: not select.select([source], [], [], 0)[0])
    os.close(sink)
    assert destination.read_until(b"found\n") == b"> found\n"


def test_closing_what_was_not_started() -> None:
    """A relay that never began can be closed."""
    assert OutputRelay().close(deadline())
