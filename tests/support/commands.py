# SPDX-License-Identifier: Apache-2.0
"""The installed command, run as people and programs run it: in a pipe, and at a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path


def run(*arguments: str, cwd: Path | None = None, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in pipes, to its end."""
    command = [sys.executable, "-m", "sagemaker_inference_lite", *arguments]
    variables = {**os.environ, **environ}
    return subprocess.run(command, cwd=cwd, env=variables, input=stdin, capture_output=True, text=True, timeout=90)


def run_at_terminal(*arguments: str, cwd: Path | None = None, **environ: str) -> tuple[int, str]:
    """The command at a terminal of its own, to its end: its status, and all that the terminal got."""
    command = [sys.executable, "-m", "sagemaker_inference_lite", *arguments]
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environ}
    variables.pop("NO_COLOR", None) if "NO_COLOR" not in environ else None
    with subprocess.Popen(
        command, cwd=cwd, env=variables, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        pieces = []
        try:
            while True:
                pieces.append(os.read(ours, 65536))
        except OSError:  # nobody has the terminal open any more
            pass
        finally:
            os.close(ours)
        return process.wait(90), b"".join(pieces).decode()
