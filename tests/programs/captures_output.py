# SPDX-License-Identifier: Apache-2.0
"""A process whose output is captured: captures_output.py VERB. What it finds wrong ends it with a traceback."""

import os
import stat
import subprocess
import sys
import threading
import time

from sagemaker_inference_lite.runtime import standard_streams
from sagemaker_inference_lite.supervision.captured_output import CapturedOutput


def run(command):
    subprocess.run(["/bin/sh", "-c", command], check=True)


def everybody_prints(captured):
    """Python, a child and a descriptor, in turn, and then a line without an end."""
    for number in range(3):
        print(f"stdout {number}", flush=True)
        print(f"stderr {number}", file=sys.stderr, flush=True)
        run(f"echo child stdout {number}; echo child stderr {number} >&2")
        os.write(2, b"descriptor 2\n")
    source, sink = os.pipe()
    captured.add(source, "[model] ", 1)
    os.write(sink, b"added\n")
    os.close(sink)
    sys.stdout.write("no end")


def much(captured):
    """More than anybody keeps for a reader who sleeps."""
    for _ in range(200):
        print("x" * 100_000)


def nothing_lands_there(captured):
    """None of 0, 1 and 2 is a socket, an epoll or whatever else this process has opened; 1 and 2 are pipes."""
    kinds = [stat.S_IFMT(os.fstat(number).st_mode) for number in range(3)]
    assert kinds == [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFIFO], kinds
    run("echo lost; echo lost >&2; read line; exit 0")


def streams_are_broken(captured):
    """Python's own are gone, and one that has nothing is in their place."""
    sys.stdout, sys.stderr = None, object()
    run("echo child")


def raise_at_the_end(captured):
    pass


verb = globals()[sys.argv[1]]
print("before")
standard_streams.occupy()
captured = CapturedOutput()
captured.start()
verb(captured)
begun = time.monotonic()
captured.close(begun + 0.5)
assert time.monotonic() - begun < 2
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
if verb is raise_at_the_end:
    raise SystemExit("the last words")
if verb is much:
    # As an entry point does whose server failed; it may be longer than a pipe takes.
    print("y" * 200_000, file=sys.stderr)
    sys.exit(7)
assert threading.active_count() == 1, threading.enumerate()
if verb is everybody_prints:
    print(" after")
