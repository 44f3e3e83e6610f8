# SPDX-License-Identifier: Apache-2.0
"""Descriptors 1 and 2 while they are captured, and afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from destination import Destination

PROGRAM = [sys.executable, str(Path(__file__).resolve().parents[1] / "programs" / "captures_output.py")]
SECONDS = 20


def test_one_reader_for_both() -> None:
    """Where stdout and stderr lead to one place, all that is printed to the two comes in its order, and whole."""
    argv = [*PROGRAM, "everybody_prints"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    turns = [
        line
        for n in range(3)
        for line in (f"stdout {n}", f"stderr {n}", f"child stdout {n}", f"child stderr {n}", "descriptor 2")
    ]
    lines = done.stdout.splitlines()
    assert lines.pop(lines.index("[model] added")) == "[model] added"
    assert lines == ["before", *turns, "no end", " after"]
    assert done.returncode == 0


def test_a_reader_for_each() -> None:
    """Where they lead to two places, each gets its own, and what a process prints after the end as well."""
    done = subprocess.run([*PROGRAM, "everybody_prints"], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) == {
        "descriptor 2",
        *(f"{who}stderr {number}" for number in range(3) for who in ("", "child ")),
    }
    assert done.stdout.endswith("no end\n after\n")
    assert "[model] added\n" in done.stdout


def test_the_last_words_of_a_process_are_its_own() -> None:
    """What the interpreter prints when it ends goes where stderr led in the beginning."""
    done = subprocess.run([*PROGRAM, "raise_at_the_end"], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (1, "before\n", "the last words\n")


@pytest.mark.parametrize("both", [True, False])
def test_nobody_reads(destination: Destination, both: bool) -> None:
    """Neither those who print, nor the end, nor the interpreter's end wait for a reader; the status is what it is."""
    with open(os.devnull, "wb") as nowhere:
        streams = [destination.descriptor, destination.descriptor if both else nowhere.fileno()]
        done = subprocess.run([*PROGRAM, "much"], stdout=streams[0], stderr=streams[1], timeout=SECONDS)
    assert done.returncode == 7


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_descriptors_that_were_closed(closed: str) -> None:
    """A command that was started without them works, and nothing else that it opens gets their numbers."""
    shell = f'exec "$0" "$@" {closed}'
    done = subprocess.run(["/bin/sh", "-c", shell, *PROGRAM, "nothing_lands_there"], stdin=subprocess.DEVNULL)
    assert done.returncode == 0


def test_streams_that_are_none() -> None:
    """Whatever stands for sys.stdout and sys.stderr, what children print comes through."""
    done = subprocess.run([*PROGRAM, "streams_are_broken"], stdout=subprocess.PIPE, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (0, "before\nchild\n")
