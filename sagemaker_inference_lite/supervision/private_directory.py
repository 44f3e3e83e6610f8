# SPDX-License-Identifier: Apache-2.0
"""A directory that only this user can enter, gone when it is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_inference_lite.errors import DirectoryError

# The path of a unix socket has 108 bytes (unix(7)), and names of up to 40 bytes are put into the directory.
_LONGEST_PATH = 64


@contextmanager
def private_directory(prefix: str) -> Iterator[Path]:
    """Make a directory of mode 0700 under TMPDIR, or under /tmp where that path is too long for sockets.

    Raises:
        DirectoryError: it cannot be made.
    """
    parent = ""
    try:
        parent = os.path.realpath(tempfile.gettempdir())
        if len(os.fsencode(parent)) + len(prefix) + 10 > _LONGEST_PATH:
            parent = "/tmp"
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
    except OSError as error:
        where = f" in {parent}" if parent else ""
        raise DirectoryError(
            f"No temporary directory can be made{where}: {error.strerror}. "
            "Make one writable, or set TMPDIR to a directory that is."
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
