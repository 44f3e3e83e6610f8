# SPDX-License-Identifier: Apache-2.0
"""The program that makes an overlay, runs pip and says why it failed.

A process of its own, so that a limit, a stop or the end of whoever started it ends pip and all that pip has started:
they stay in its process group.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagemaker_inference_lite.errors import RequirementsError
from sagemaker_inference_lite.requirements import overlay, pip
from sagemaker_inference_lite.requirements.wanted import Requirements
from sagemaker_inference_lite.runtime import processes
from sagemaker_inference_lite.runtime.processes import kill_group

_MODULE = "sagemaker_inference_lite.requirements.installer"

# A build may print without end. What pip says of it comes last.
_KEPT_LINES = 2000
_LAST_LINES_SECONDS = 1.0

# A pipe takes this much without anybody reading it.
_LONGEST_REASON_BYTES = 4096


def command(
    requirements: Requirements,
    directory: Path,
    reason_fd: int,
    limit_seconds: int | None = None,
    orphaned: Path | None = None,
) -> list[str]:
    """The command that runs this program.

    Its stdin is a pipe that whoever starts it holds: when that ends, it ends its process group. pip's output goes to
    its stdout. Its status is 0 once all is installed.

    Args:
        requirements: What to install.
        directory: Where to: becomes an overlay.
        reason_fd: A descriptor that it inherits and writes the reason of a failure to, for `failure`.
        limit_seconds: How long pip may take.
        orphaned: What else to remove where whoever started it is gone.
    """
    argv = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", _MODULE]
    argv += [f"--requirements={requirements.path}", f"--directory={directory}", f"--reason-fd={reason_fd}"]
    argv += [f"--wheels={requirements.wheels}"] if requirements.wheels is not None else []
    argv += [f"--limit={limit_seconds}"] if limit_seconds is not None else []
    return [*argv, *([f"--orphaned={orphaned}"] if orphaned is not None else [])]


def failure(requirements: Requirements, returncode: int, reason: bytes) -> RequirementsError | None:
    """What the program's end means; None where all is installed.

    Args:
        requirements: What was to be installed.
        returncode: As ``Popen.returncode``.
        reason: What it wrote to its reason_fd.
    """
    if returncode == 0:
        return None
    text = reason.decode(errors="replace") or f"the installation {processes.describe(returncode)}."
    return RequirementsError(f"{requirements.path} cannot be installed: {text}")


def install(requirements: Requirements, directory: Path, environ: Mapping[str, str], limit_seconds: int | None) -> None:
    """Install requirements into a new overlay.

    Raises:
        RequirementsError: that failed; says why, and names the package.
    """
    if importlib.util.find_spec("pip") is None:
        raise RequirementsError(
            f"the image's Python ({sys.executable}) has no pip. Add it to the image, or the packages themselves."
        )
    python = overlay.create(directory)
    temporary = directory / "tmp"
    temporary.mkdir()
    environ = pip.environment(environ, requirements, temporary)
    _run(pip.command(python, requirements), requirements, environ, limit_seconds)
    overlay.remove(temporary)
    overlay.finish(directory)


def _run(argv: Sequence[str], requirements: Requirements, environ: Mapping[str, str], limit: int | None) -> None:
    process = subprocess.Popen(
        argv,
        env=dict(environ),
        cwd=requirements.path.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_pass_on, args=(process.stdout.fileno(), lines), daemon=True)
    reader.start()
    try:
        returncode = process.wait(limit)
    except subprocess.TimeoutExpired:
        raise RequirementsError(
            f"pip did not finish within {limit} seconds (SAGEMAKER_STARTUP_TIMEOUT). {pip.was_at(list(lines))}"
        ) from None
    reader.join(_LAST_LINES_SECONDS)  # what pip has started may hold the pipe open for longer than pip lives
    if returncode < 0:
        raise RequirementsError(f"pip {processes.describe(returncode)}.")
    if returncode:
        raise RequirementsError(pip.reason_of(list(lines), requirements))


def _pass_on(source: int, lines: deque[str]) -> None:
    with open(source, "rb", closefd=False) as file:
        for line in file:
            with contextlib.suppress(OSError):  # nobody reads any more, and pip must not be held up for that
                os.write(1, line)
            lines.append(line.decode(errors="replace").rstrip())


def _end_with_parent(removed: Sequence[Path]) -> None:
    """End the process group when the other end of stdin is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        for directory in removed:
            overlay.remove(directory)
        kill_group(os.getpgrp())

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def main() -> int:
    """The process's entry point; its status is 0, or the exit code of a RequirementsError."""
    parser = argparse.ArgumentParser(prog="installer")
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--reason-fd", type=int, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--orphaned", type=Path)
    arguments = parser.parse_args()
    _end_with_parent([arguments.directory, *filter(None, [arguments.orphaned])])
    requirements = Requirements(arguments.requirements, arguments.wheels)
    try:
        install(requirements, arguments.directory, os.environ, arguments.limit)
    except RequirementsError as error:
        os.write(arguments.reason_fd, str(error).encode()[:_LONGEST_REASON_BYTES])
        return error.exit_code
    return 0


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the working directory, which "python -m" puts before the standard library
    sys.exit(main())
