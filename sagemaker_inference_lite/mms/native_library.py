# SPDX-License-Identifier: Apache-2.0
"""Netty's native library, which is in MMS's jar.

Netty unpacks it at each start, into a directory from which it must be able to run code. A container whose root is
read-only may have none: Docker mounts /tmp as noexec there. Unpacked once, while the image is built, it lies in this
package's directory, and Java finds it by its name.
"""

from __future__ import annotations

import os
import platform
import zipfile
from pathlib import Path

from sagemaker_inference_lite.errors import DirectoryError, PreflightError

DIRECTORY = Path(__file__).resolve().parent / "native"

# What Netty calls the processors of platform.machine() (PlatformDependent.normalizeArch).
_PROCESSORS = {"x86_64": "x86_64", "aarch64": "aarch_64"}


def file_name() -> str:
    """The library's name on this machine."""
    machine = platform.machine()
    return f"libnetty_transport_native_epoll_{_PROCESSORS.get(machine, machine)}.so"


def place(server_jar: Path) -> Path:
    """Where the library of a jar is, or would be, once it is unpacked."""
    state = server_jar.stat()
    return DIRECTORY / f"{state.st_size}-{int(state.st_mtime)}" / file_name()


def unpack(server_jar: Path) -> Path:
    """Unpack the library into this package's directory.

    Raises:
        PreflightError: The jar has none for this machine's processor.
        OSError: The directory cannot be written to.
    """
    target = place(server_jar)
    try:
        with zipfile.ZipFile(server_jar) as jar:
            content = jar.read(f"META-INF/native/{target.name}")
    except KeyError:
        raise PreflightError(
            f"{server_jar} has no {target.name}: the front end runs on x86-64 and arm64, and this is "
            f"{platform.machine()}."
        ) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_suffix(f".{os.getpid()}")
    made.write_bytes(content)
    made.replace(target)
    return target


def find(server_jar: Path) -> Path | None:
    """The library that was unpacked for a jar; None where there is none."""
    path = place(server_jar)
    return path if os.access(path, os.R_OK) else None


def check_directory(directory: Path) -> None:
    """Raise DirectoryError where Netty could not use what it unpacks into a directory."""
    if os.statvfs(directory).f_flag & os.ST_NOEXEC:
        raise DirectoryError(
            f"{directory.parent} is mounted noexec, and the front end has to run code that it unpacks there. Run "
            "sagemaker-inference-lite prepare while the image is built, or set TMPDIR to a directory without noexec."
        )
