# SPDX-License-Identifier: Apache-2.0
"""An archive of the front end's classes, ready to be mapped into memory (class-data sharing, JEP 310).

Java reads, checks and links some 6,000 classes before the front end listens. With the archive it finds them done: on
two CPUs a server answers after 0.37 s instead of 0.63 s. The archive belongs to one Java and two jars, which the file's
name says, and Java checks it once more and goes on without where it does not fit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from sagemaker_inference_lite.mms.java import Java

# Old enough Javas cannot archive what the application brings, or want other options for it.
OLDEST_VERSION = 17
# From this one on the archive's messages have another tag (JEP 483).
_AOT_VERSION = 24

DIRECTORY = Path(__file__).resolve().parent / "class_data"


def archive_path(java: Java, class_path: tuple[Path, ...]) -> Path:
    """Where the archive for that Java and these jars is, or would be."""
    digest = hashlib.sha256()
    release = java.executable.resolve().parent.parent / "release"
    for path in (release, *class_path):
        try:
            state = path.stat()
            # Whole seconds, as Java compares them: a registry keeps no finer ones.
            digest.update(f"{path} {state.st_size} {int(state.st_mtime)}\n".encode())
        except OSError:
            digest.update(f"{path} -\n".encode())
    return DIRECTORY / f"java-{java.version}-{digest.hexdigest()[:16]}.jsa"


def find(java: Java, class_path: tuple[Path, ...]) -> Path | None:
    """The archive for that Java and these jars; None where there is none."""
    if java.version < OLDEST_VERSION:
        return None
    path = archive_path(java, class_path)
    return path if os.access(path, os.R_OK) else None


def use_flags(java: Java, archive: Path | None) -> list[str]:
    """The options of a Java that uses the archive, if there is one."""
    if archive is None:
        return []
    # Where the archive does not fit, SAGEMAKER_MODEL_SERVER_VMARGS having changed what it depends on, say, Java goes on
    # without it, and its warnings would only be in the way.
    tags = ["cds*", "aot*"] if java.version >= _AOT_VERSION else ["cds*"]
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", *(f"-Xlog:{tag}=off" for tag in tags)]


def rehearsal_environ(environ: Mapping[str, str], address: Path, class_list: Path) -> dict[str, str]:
    """The environment of a multi-model server that lists the classes that its Java loads.

    Args:
        address: The unix socket that it listens on.
        class_list: Where the names go.
    """
    inherited = {name: value for name, value in environ.items() if not name.startswith(("SAGEMAKER_", "MMS_"))}
    return {
        **inherited,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_MODEL_SERVER_VMARGS": f"-XX:DumpLoadedClassList={class_list}",
        "SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS": "1",
        "MMS_INFERENCE_ADDRESS": f"unix:{address}",
        "MMS_MANAGEMENT_ADDRESS": f"unix:{address}",
    }


def dump_command(
    java: Java, class_path: tuple[Path, ...], flags: list[str], class_list: Path, archive: Path
) -> list[str]:
    """The command that makes an archive of the classes in a list.

    Args:
        flags: Options of the front end's that an archive depends on.
    """
    return [
        str(java.executable),
        "-Xshare:dump",
        *flags,
        f"-XX:SharedClassListFile={class_list}",
        f"-XX:SharedArchiveFile={archive}",
        # It names each class that it leaves out; those of the old jars are many.
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
        "-cp",
        os.pathsep.join(map(str, class_path)),
    ]
