# SPDX-License-Identifier: Apache-2.0
"""stdout and stderr, whatever a program has made of them. Each case is a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAD = """
import codecs, io, os, stat, sys
from sagemaker_inference_lite.runtime import standard_streams

class Broken:
    def flush(self):
        raise RuntimeError

class Exits:
    def flush(self):
        raise SystemExit

class OnlyWrites:
    def write(self, text):
        pass
"""


def run(program: str, closed: str = "") -> subprocess.CompletedProcess[bytes]:
    """Runs a program that begins with HEAD, with these descriptors closed."""
    shell = ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", HEAD + program]
    return subprocess.run(shell, capture_output=True, timeout=20)


@pytest.mark.parametrize(
    "replacement",
    [
        "None",
        "Broken()",
        "Exits()",
        "OnlyWrites()",
        "codecs.getwriter('utf-8')(sys.stdout.buffer)",
        "io.StringIO()",
        "io.TextIOWrapper(sys.stdout.buffer)",
        "io.TextIOWrapper(sys.stdout.detach())",
    ],
)
def test_replaced_streams(replacement: str) -> None:
    """Whatever has taken the place of a stream, nothing is raised for it."""
    done = run(
        f"sys.stdout = sys.stderr = {replacement}\nstandard_streams.set_up()\nstandard_streams.flush()\nos._exit(5)"
    )
    assert done.returncode == 5, done.stderr


@pytest.mark.parametrize("how", ["sys.{}.close()", "os.close(sys.{}.fileno())"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_closed_streams(how: str, stream: str) -> None:
    """The same for one that has been closed, before its text or its descriptor."""
    statement = how.format(stream)
    done = run(f"print('x', end='')\n{statement}\nstandard_streams.flush()\nstandard_streams.set_up()\nos._exit(5)")
    assert done.returncode == 5, done.stderr


def test_lines_come_at_once_and_odd_characters_are_shown() -> None:
    """A line is written as it ends, and what cannot be encoded is an escape; an author's own choice is kept."""
    done = run(
        "standard_streams.set_up()\nprint('a\\ud800')\nprint('b\\udcff', file=sys.stderr)\n"
        "sys.stdout = io.TextIOWrapper(sys.__stdout__.buffer, errors='ignore')\nstandard_streams.set_up()\n"
        "print('c\\ud800')\nos._exit(0)"
    )
    assert (done.stdout, done.stderr) == (b"a\\ud800\nc\n", b"b\\udcff\n")


def test_what_is_held_back_is_written() -> None:
    """Text that waits in a stream is written, that of the stream which was replaced too."""
    done = run(
        "print('one', end='')\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer)\nprint('two', end='')\n"
        "standard_streams.flush()\nos._exit(0)"
    )
    assert sorted([done.stdout[:3], done.stdout[3:]]) == [b"one", b"two"]


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_number_is_left_for_others(closed: str) -> None:
    """Standard descriptors that are closed lead nowhere, for children too; those that are open stay as they are."""
    done = run(
        "before = [os.path.exists(f'/proc/self/fd/{n}') and os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "standard_streams.occupy()\nstandard_streams.occupy()\n"
        "after = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "assert all(b in (False, a) and (b or a == '/dev/null') for b, a in zip(before, after))\n"
        "assert all(map(os.get_inheritable, range(3)))\n"
        "assert os.pipe()[0] >= 3\nos._exit(5)",
        closed,
    )
    assert done.returncode == 5, done.stderr
