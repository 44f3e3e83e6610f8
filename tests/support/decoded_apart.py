# SPDX-License-Identifier: Apache-2.0
"""Decoding in a process of its own, whose memory is measured and which native code may end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

# The peak is the process's own (proc(5), VmHWM): what getrusage() says of a child begins with what its parent had.
PROGRAM = """
import json, sys, time

from sagemaker_inference_lite.codecs import decode
from sagemaker_inference_lite.errors import ClientError

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

body = sys.stdin.buffer.read()
before = peak()
status, message = 200, ""
try:
    decode(body, sys.argv[1])
except ClientError as error:
    status, message = error.status, error.message
print(json.dumps([status, message, peak() - before]))
"""


class Outcome(NamedTuple):
    """What became of a body.

    Attributes:
        status: 200, or the status that it is answered with.
        message: What the caller is told.
        growth: By how many bytes the process's memory grew at most, its libraries included.
    """

    status: int
    message: str
    growth: int


def decoded_apart(body: bytes, content_type: str) -> Outcome:
    """Decodes the body in a new process; an exception that is no ClientError, or a crash, fails the test."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, content_type]
    run = subprocess.run(command, input=body, capture_output=True, timeout=60)
    assert run.returncode == 0, (run.returncode, run.stderr[-2000:])
    assert run.stderr == b""
    return Outcome(*json.loads(run.stdout))
