# SPDX-License-Identifier: Apache-2.0
"""The names that the front end may look up: those of this machine.

Log4j asks for the machine's own name at each start. In a container without a network nobody knows it: there log4j
prints a traceback, and where name servers are set and do not answer, Java waits for them first. A front end that
fetches no models has no other name to look up, so it gets a file in place of a name service.
"""

from __future__ import annotations

import socket
from pathlib import Path

MACHINE_WIDE = Path("/etc/hosts")


def text(machine_wide: Path = MACHINE_WIDE) -> str:
    """What is in the machine's own file, and after it localhost and the machine's name, for the front end's file."""
    try:
        known = machine_wide.read_text(errors="replace").rstrip("\n")
    except OSError:
        known = ""
    return f"{known}\n127.0.0.1 localhost {socket.gethostname()}\n"


def flags(file: Path, allow_model_download: bool) -> list[str]:
    """The option of Java that has it read the file (InetAddress, since Java 9; older ones pass it over)."""
    return [] if allow_model_download else [f"-Djdk.net.hosts.file={file}"]
