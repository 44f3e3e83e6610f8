# SPDX-License-Identifier: Apache-2.0
"""Lines for somebody who may not read them: none waits, and what is missing is counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Callable

import pytest
from destination import Destination, deadline
from running_server import eventually

from sagemaker_inference_lite.supervision.line_writer import BACKLOG_BYTES, LineWriter
from sagemaker_inference_lite.supervision.output import _LONGEST_LINE_BYTES, _READ_BYTES

KIB = 1 << 10
LINE = b"x" * 99 + b"\n"
NOTICE = re.compile(rb"[\d,: -]+\[WARNING\] [\w.]+ - (\d+) lines \((\d+) bytes\) of output were dropped: ([\w ]+)\n")

Start = Callable[..., LineWriter]


@pytest.fixture
def start(destination: Destination) -> Iterator[Start]:
    """Starts writers that write to the destination; they must end once nobody reads there."""
    writers: list[LineWriter] = []

    def starter(limit_bytes: int = BACKLOG_BYTES) -> LineWriter:
        writers.append(LineWriter(destination.descriptor, limit_bytes))
        writers[-1].start()
        return writers[-1]

    yield starter
    destination.hang_up()
    for writer in writers:
        assert writer.end(deadline())


def notice_in(text: bytes) -> tuple[int, int, bytes]:
    """Lines, bytes and reason of the one notice in a text of LINEs."""
    found = list(NOTICE.finditer(text))
    assert len(found) == 1, text[-500:]
    assert set(text.replace(found[0][0], b"").splitlines(keepends=True)) == {LINE}
    return int(found[0][1]), int(found[0][2]), found[0][3]


def test_the_longest_line_fits() -> None:
    """However long a line is that comes from a pipe, it is not dropped for its length."""
    assert BACKLOG_BYTES > 2 * (_LONGEST_LINE_BYTES + _READ_BYTES)


def test_lines_keep_their_order(start: Start, destination: Destination) -> None:
    """What is put is written, all of it, in its order."""
    writer = start()
    lines = [b"%d\n" % number for number in range(20_000)]
    for line in lines:
        writer.put(line)
    assert destination.read_until(lines[-1]) == b"".join(lines)
    assert writer.settle(deadline())


def test_nobody_reads(start: Start, destination: Destination) -> None:
    """What does not fit is dropped, whole lines of it, and one line says how many where they are missing."""
    writer = start(100 * KIB)
    begun = time.monotonic()
    for _ in range(100):
        writer.put(LINE * 100)
    assert time.monotonic() - begun < 2
    assert not writer.settle(time.monotonic())
    text = destination.read_until(b"nobody read them\n")
    lines, size, _ = notice_in(text)
    assert lines + text.count(LINE) == 100 * 100
    assert size == lines * len(LINE)
    assert len(text) > 100 * KIB - 2 * len(LINE)
    assert NOTICE.search(text)[0] == text[-len(NOTICE.search(text)[0]) :]  # type: ignore[index]


def test_lines_after_a_loss(start: Start, destination: Destination) -> None:
    """Until what came before the loss has been written nothing is taken up; then all is, with the notice between."""
    writer = start(100 * KIB)
    for _ in range(2000):
        writer.put(LINE)
    # A part of what waits, so that there is room again, and more is left than a pipe takes.
    destination.read_until_there_are(100, b"\n", at_once=4 * KIB)
    writer.put(LINE)
    destination.read_until(b"nobody read them\n")
    assert writer.settle(deadline())
    writer.put(b"after\n")
    lines, _, _ = notice_in(destination.read_until(b"after\n")[: -len(b"after\n")])
    assert lines + destination.text.count(LINE) == 2001


def test_a_descriptor_that_does_not_block(start: Start, destination: Destination) -> None:
    """A pipe that somebody has made non-blocking is written to when there is room; nothing is lost for that."""
    os.set_blocking(destination.descriptor, False)
    writer = start()
    writer.put(LINE * 5000)
    assert not writer.settle(deadline(0.05))
    destination.read_until_there_are(5000, b"\n")
    assert destination.text == LINE * 5000


def test_the_reader_is_gone(start: Start, destination: Destination) -> None:
    """A reader that will never come back is not waited for, neither by those who print nor at the end."""
    writer = start(100 * KIB)
    destination.hang_up()
    for _ in range(100):
        writer.put(LINE * 100)
    assert writer.settle(deadline(1))
    assert writer.end(deadline(1))


def test_sigpipe_ends_nobody() -> None:
    """The same in a process for which SIGPIPE has its meaning for the kernel."""
    program = """
import os, signal, time
from sagemaker_inference_lite.supervision.line_writer import LineWriter
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
source, sink = os.pipe()
os.close(source)
writer = LineWriter(sink)
writer.start()
writer.put(b"line\\n")
assert writer.settle(time.monotonic() + 5)
assert writer.end(time.monotonic() + 5)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def test_a_full_disk(start: Start, destination: Destination) -> None:
    """Where nothing can be written, lines are dropped and counted with the reason, and it is tried again."""
    beside = os.dup(destination.descriptor)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), destination.descriptor)
    writer = start(100 * KIB)
    for _ in range(3):
        writer.put(LINE * 2000)
    assert writer.settle(deadline(1))
    os.dup2(beside, destination.descriptor)
    os.close(beside)
    text = destination.read_until(b"No space left on device\n")
    assert NOTICE.fullmatch(text)
    assert NOTICE.fullmatch(text)[1] == b"6000"  # type: ignore[index]
    writer.put(LINE)
    assert destination.read_until(LINE).endswith(b"device\n" + LINE)


def test_a_failure_within_a_line(monkeypatch: pytest.MonkeyPatch, start: Start, destination: Destination) -> None:
    """A line that was cut by a failure is ended before another one begins, and counted."""
    write = os.write
    outcomes: Iterator[int | OSError] = iter([150, OSError(28, "No space left on device")])

    def fail_once(descriptor: int, data: bytes) -> int:
        outcome = next(outcomes, len(data)) if descriptor == destination.descriptor else len(data)
        if isinstance(outcome, OSError):
            raise outcome
        return write(descriptor, data[:outcome])

    monkeypatch.setattr(os, "write", fail_once)
    start().put(LINE * 3)
    text = destination.read_until(b"device\n")
    assert text.startswith(LINE + b"x" * 50 + b"\n")
    assert NOTICE.fullmatch(text[len(LINE) + 51 :])[1] == b"2"  # type: ignore[index]


def test_no_room_for_last_words(start: Start, destination: Destination) -> None:
    """All has been written, but a pipe has no room left: who prints more would wait, so that nothing is settled."""
    writer = start()
    writer.put(b"x" * (64 * KIB - 1) + b"\n")
    assert not writer.settle(deadline(0.1))
    destination.read_until(b"\n")
    assert writer.settle(deadline())


def test_ending_while_nobody_reads(start: Start, destination: Destination) -> None:
    """The end of a writer whose reader sleeps is not waited for beyond the deadline; once it wakes up, all comes."""
    writer = start()
    writer.put(LINE * 2000)
    assert not writer.end(deadline(0.1))
    destination.read_until_there_are(2000, b"\n")
    eventually(lambda: writer.end(deadline(1)))
