# SPDX-License-Identifier: Apache-2.0
"""The front end's command line and environment. Pure, but for finding the installed files."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite import machine
from sagemaker_inference_lite.errors import ModelServerNotFoundError
from sagemaker_inference_lite.mms.java import Java
from sagemaker_inference_lite.settings import Settings

# What Java ends with for -XX:+ExitOnOutOfMemoryError.
OUT_OF_MEMORY_STATUS = 3

MAIN_CLASS = "sagemakerinferencelite.FrontEnd"

_HERE = Path(__file__).resolve().parent
PLUGIN_JAR = _HERE / "front_end.jar"
LOG_CONFIGURATION = _HERE / "log4j2.xml"

_MIB = 1 << 20

_BEHIND_SECONDS = 5

# MaxPayloadInMB of CreateTransformJob takes no more.
_MAX_TRANSFORM_MIB = 100

# MMS reads these before, or instead of, what it is told on its command line (ConfigManager.java).
_NOT_PASSED_ON = ("MODEL_SERVER_HOME", "MMS_CONFIG_FILE")


class Sizes(NamedTuple):
    """How large the front end is made.

    Attributes:
        cpus: What Java takes the number of processors to be.
        heap_mib: The limit of its heap, and of its buffers outside the heap, each.
    """

    cpus: int
    heap_mib: int


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


def sizes(settings: Settings) -> Sizes:
    """CPUs as the container may use them, and a heap that holds some of the largest requests.

    A request passes through the front end in about four copies; sixteen times the largest leaves room for
    four at once. It gets no more than a quarter of the container, because the memory is the models'.
    """
    quarter = machine.memory_bytes() // 4 // _MIB
    wanted = max(256, 16 * settings.max_payload_bytes // _MIB)
    return Sizes(machine.cpu_count(), max(128, min(wanted, quarter)))


def command(
    java: Java, server_jar: Path, properties_file: Path, settings: Settings, workers: int, size: Sizes
) -> list[str]:
    """The command line of the front end."""
    directory = properties_file.parent
    return [
        str(java.executable),
        f"-Xmx{size.heap_mib}m",
        f"-XX:MaxDirectMemorySize={size.heap_mib}m",
        f"-XX:ActiveProcessorCount={size.cpus}",
        "-XX:+UseSerialGC",
        # An error that leaves threads dead and the port open would be taken for a server that works.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        *_quiet_flags(java.version),
        f"-Djava.io.tmpdir={directory}",
        f"-Dlog4j.configurationFile={LOG_CONFIGURATION.as_uri()}",
        "-Dlog4j2.disable.jmx=true",
        "-Dio.netty.leakDetection.level=disabled",
        *_download_flags(settings.allow_model_download),
        *_plugin_flags(settings, workers, directory),
        *settings.model_server_vmargs,
        "-cp",
        os.pathsep.join((str(PLUGIN_JAR), str(server_jar))),
        MAIN_CLASS,
        "-f",
        str(properties_file),
    ]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The front end's environment: the server's own, less what would make MMS look elsewhere."""
    return {name: value for name, value in environ.items() if name not in _NOT_PASSED_ON}


def ignored_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that MMS documents and that have no effect here."""
    return [name for name in _NOT_PASSED_ON if name in environ]


def _quiet_flags(version: int) -> list[str]:
    # Netty 4.1.91 loads its native transport (JEP 472) and uses sun.misc.Unsafe (JEP 498).
    flags = []
    if version >= 17:
        flags.append("--enable-native-access=ALL-UNNAMED")
    if version >= 23:
        flags.append("--sun-misc-unsafe-memory-access=allow")
    return flags


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


def _plugin_flags(settings: Settings, workers: int, directory: Path) -> list[str]:
    values = {
        "multi_model": str(settings.multi_model).lower(),
        "state_dir": str(directory),
        "max_concurrent_transforms": settings.max_concurrent_transforms or workers,
        "batch_strategy": settings.batch_strategy or "MULTI_RECORD",
        "max_payload_in_mb": min(settings.max_payload_bytes // _MIB, _MAX_TRANSFORM_MIB),
        # Behind the limit at which the zygote has answered for whatever a worker was busy with.
        "unload_seconds": settings.model_server_timeout + _BEHIND_SECONDS,
        "log_level": _log4j_level(settings.container_log_level),
    }
    return [f"-Dsagemaker_inference_lite.{name}={value}" for name, value in values.items()]


def _log4j_level(level: int) -> str:
    """MMS's own chatter starts at "info": only somebody who asks for DEBUG wants to see it."""
    if level <= logging.DEBUG:
        return "info"
    return "warn" if level <= logging.WARNING else "error"
