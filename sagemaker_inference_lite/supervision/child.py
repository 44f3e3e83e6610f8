# SPDX-License-Identifier: Apache-2.0
"""A child process that this process owns: it holds its handle and never looks for it in the process table."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.runtime import processes
from sagemaker_inference_lite.runtime.processes import kill_group


class ChildProcess:
    """A program run in a session of its own, with this process's stdout and stderr.

    The session keeps a terminal's Ctrl-C from it: this process decides what its end is to look like. All that it
    starts and that stays in its process group ends with end().

    Args:
        name: What it is called at the beginning of a sentence.
        argv: The program and its arguments.
        environ: Its whole environment.
        pass_fds: File descriptors that it inherits.
        commands: Whether it reads commands from a pipe at its stdin. The pipe's end tells it that this process is gone.

    Raises:
        LaunchError: the program cannot be run.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        commands: bool = False,
    ) -> None:
        self.name = name
        try:
            self._process = subprocess.Popen(
                list(argv),
                env=dict(environ),
                stdin=subprocess.PIPE if commands else subprocess.DEVNULL,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"{name} cannot be started: {argv[0]}: {error.strerror or error}") from error

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """None while it runs, then its status as ``Popen.returncode``."""
        return self._process.poll()

    def command(self, line: str) -> None:
        """Send it a line. Nothing happens where it has ended."""
        stdin: IO[bytes] | None = self._process.stdin
        if stdin is not None:
            with suppress(OSError, ValueError):
                stdin.write(line.encode() + b"\n")
                stdin.flush()

    def describe_end(self) -> str:
        """A sentence on how it ended, without the full stop."""
        returncode = self.poll()
        return f"{self.name} is running" if returncode is None else f"{self.name} {processes.describe(returncode)}"

    @property
    def exit_code(self) -> int:
        """An exit status that passes its end on."""
        return processes.exit_code(self.poll() or 0)

    def end(self) -> None:
        """Kill it and its process group, and reap it. Its leftovers are killed too where it has ended itself."""
        kill_group(self.pid)
        self._process.kill()  # it may have left its group
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
