# SPDX-License-Identifier: Apache-2.0
"""The command as a person runs it: at a terminal of its own, or into a pipe, with directories of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

COMMAND = (sys.executable, "-m", "sagemaker_inference_lite")

_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Running:
    """A command that runs.

    Args:
        arguments: After the program's name.
        directory: Where it runs; its notes are in a directory in there.
        terminal: Whether it runs at a terminal; else its output goes into one pipe.
        variables: Further environment variables.
    """

    def __init__(self, arguments: Sequence[str], directory: Path, terminal: bool = False, **variables: str) -> None:
        # Not in the test's, whose path is too long for the sockets that are made there.
        self.temporary = Path(tempfile.mkdtemp(prefix="test-"))
        self.runtime = directory / "r"
        self.runtime.mkdir(exist_ok=True)
        places = {"TMPDIR": str(self.temporary), "XDG_RUNTIME_DIR": str(self.runtime)}
        self.environ = {**os.environ, **places, "TERM": "xterm"}
        self.environ.update(variables)
        self._source, theirs = pty.openpty() if terminal else os.pipe()
        self.seen = b""

        def take_terminal() -> None:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=directory,
            env=self.environ,
            stdin=theirs if terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_terminal if terminal else None,
        )
        os.close(theirs)

    @property
    def text(self) -> str:
        """What it has shown so far, without escape sequences."""
        return _ESCAPES.sub(b"", self.seen).decode().replace("\r\n", "\n")

    def until(self, pattern: str, seconds: float = 60) -> str:
        """Wait until what it has shown has a match; the match's last group, or all of it."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.text, re.MULTILINE)
            if found:
                return found.groups()[-1] if found.groups() else found[0]
            if time.monotonic() > deadline or not self._read(deadline):
                raise AssertionError(f"{pattern!r} was not shown:\n{self.text}")

    def press(self, key: bytes) -> None:
        """Press a key at the terminal."""
        os.write(self._source, key)

    def processes(self) -> list[psutil.Process]:
        """The command's process and all that it has started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def end(self, seconds: float = 40) -> int:
        """Wait for its end; its exit status."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(max(1.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End it whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._source)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _read(self, deadline: float) -> bool:
        """Read more; False at its end."""
        readable, _, _ = select.select([self._source], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._source, 65536) if readable else b""
        except OSError:  # what a terminal's end is on Linux
            data = b""
        self.seen += data
        return bool(data)


def run(
    *arguments: str, cwd: Path | None = None, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command in pipes, to its end."""
    environ = {**os.environ, **variables}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=environ, input=stdin, capture_output=True, text=True, timeout=90
    )
