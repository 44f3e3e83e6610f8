# SPDX-License-Identifier: Apache-2.0
"""The front end's command line. Pure, but for finding the installed files."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from sagemaker_inference_lite.errors import ModelServerNotFoundError
from sagemaker_inference_lite.machine.sizing import MOST_WORKERS, Sizing
from sagemaker_inference_lite.mms import cds_archive, hosts_file
from sagemaker_inference_lite.mms.java import Java
from sagemaker_inference_lite.settings import Settings

# What Java ends with for -XX:+ExitOnOutOfMemoryError.
OUT_OF_MEMORY_STATUS = 3

# Made by the front end once it listens (FrontEnd.java).
LISTENING_FILE = "listening"

HOSTS_FILE = "hosts"

MAIN_CLASS = "sagemakerinferencelite.FrontEnd"

_HERE = Path(__file__).resolve().parent
PLUGIN_JAR = _HERE / "front_end.jar"
LOG_CONFIGURATION = _HERE / "log4j2.xml"

_MIB = 1 << 20

# Its pauses are short on a heap of this size, and it has neither threads nor memory of its own.
_COLLECTOR = "-XX:+UseSerialGC"

_BEHIND_SECONDS = 5

# MaxPayloadInMB of CreateTransformJob takes no more.
_MAX_TRANSFORM_MIB = 100


def find_model_server_jar() -> Path:
    """The jar of the installed multi-model-server package.

    Raises:
        ModelServerNotFoundError: the package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec("mms")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        jar = Path(location, "frontend", "model-server.jar")
        if jar.is_file():
            return jar
    raise ModelServerNotFoundError(
        "The package multi-model-server is not installed beside this one, or its model-server.jar is missing. "
        "Install it with pip install multi-model-server."
    )


def class_path(server_jar: Path) -> tuple[Path, ...]:
    """The jars that the front end is made of."""
    return (PLUGIN_JAR, server_jar)


def command(
    java: Java,
    server_jar: Path,
    properties_file: Path,
    settings: Settings,
    size: Sizing,
    archive: Path | None = None,
    library: Path | None = None,
    most_workers: int = MOST_WORKERS,
) -> list[str]:
    """The command line of the front end.

    Args:
        archive: Of its classes (cds_archive.py).
        library: Netty's, where it is unpacked (native_library.py).
        most_workers: Of all models together.
    """
    directory = properties_file.parent
    return [
        str(java.executable),
        f"-Xmx{size.heap_mib.value}m",
        f"-XX:MaxDirectMemorySize={size.heap_mib.value}m",
        f"-XX:ActiveProcessorCount={size.cpus.value}",
        # An error that leaves threads dead and the port open would be taken for a server that works.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        *_without_a_second_collector(fixed_flags(java.version), settings.model_server_vmargs),
        *cds_archive.use_flags(java, archive),
        f"-Djava.io.tmpdir={directory}",
        *([f"-Djava.library.path={library.parent}"] if library else []),
        *hosts_file.flags(directory / HOSTS_FILE, settings.allow_model_download),
        f"-Dlog4j.configurationFile={LOG_CONFIGURATION.as_uri()}",
        "-Dlog4j2.disable.jmx=true",
        "-Dio.netty.leakDetection.level=disabled",
        *_download_flags(settings.allow_model_download),
        *_plugin_flags(settings, size.workers.value, most_workers, directory),
        *settings.model_server_vmargs,
        "-cp",
        os.pathsep.join(map(str, class_path(server_jar))),
        MAIN_CLASS,
        "-f",
        str(properties_file),
    ]


def fixed_flags(version: int) -> list[str]:
    """The options that are always the same, on which an archive of classes depends (cds_archive.py)."""
    flags = [_COLLECTOR]
    # Netty 4.1.91 loads its native transport (JEP 472) and uses sun.misc.Unsafe (JEP 498).
    if version >= 17:
        flags.append("--enable-native-access=ALL-UNNAMED")
    if version >= 23:
        flags.append("--sun-misc-unsafe-memory-access=allow")
    return flags


def _without_a_second_collector(flags: list[str], given: Sequence[str]) -> list[str]:
    """The flags, without the collector where the user has chosen one: Java does not start with two."""
    is_chosen = any(re.fullmatch(r"-XX:\+Use\w+GC", option) for option in given)
    return [flag for flag in flags if not (is_chosen and flag == _COLLECTOR)]


def _download_flags(allowed: bool) -> list[str]:
    """MMS downloads a model from any http address that POST /models names; a proxy that is not there stops it.

    Port 1 of loopback (tcpmux) is root's alone, so nothing that runs as somebody else can put a proxy there.
    """
    if allowed:
        return []
    return [
        "-Dhttp.proxyHost=127.0.0.1",
        "-Dhttp.proxyPort=1",
        "-Dhttps.proxyHost=127.0.0.1",
        "-Dhttps.proxyPort=1",
        "-Dhttp.nonProxyHosts=",
    ]


def _plugin_flags(settings: Settings, workers: int, most_workers: int, directory: Path) -> list[str]:
    values = {
        "multi_model": str(settings.multi_model).lower(),
        "state_dir": str(directory),
        "max_concurrent_transforms": settings.max_concurrent_transforms or workers,
        "batch_strategy": settings.batch_strategy or "MULTI_RECORD",
        "max_payload_in_mb": min(settings.max_payload_bytes // _MIB, _MAX_TRANSFORM_MIB),
        "max_workers": most_workers,
        "startup_seconds": settings.startup_timeout,
        # Behind the limit at which the zygote has answered for whatever a worker was busy with.
        "unload_seconds": settings.model_server_timeout + _BEHIND_SECONDS,
        "allow_download": str(settings.allow_model_download).lower(),
        "access_log": settings.model_server_access_log.value,
        "log_level": _log4j_level(settings.container_log_level),
    }
    return [f"-Dsagemaker_inference_lite.{name}={value}" for name, value in values.items()]


def _log4j_level(level: int) -> str:
    """MMS's own chatter starts at "info": only somebody who asks for DEBUG wants to see it."""
    if level <= logging.DEBUG:
        return "info"
    return "warn" if level <= logging.WARNING else "error"
