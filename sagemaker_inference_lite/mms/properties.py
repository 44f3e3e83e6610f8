# SPDX-License-Identifier: Apache-2.0
"""MMS's configuration: which properties it gets, and how they are written (ConfigManager.java:58-96)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Union

from sagemaker_inference_lite.errors import PreflightError
from sagemaker_inference_lite.settings import Settings
from sagemaker_inference_lite.sizing import Size, Sizing

# What ConfigManager takes from the environment as "MMS_" + the key in upper case.
OVERRIDABLE = frozenset(
    """
    debug inference_address management_address load_models blacklist_env_vars default_workers_per_model
    default_response_timeout default_response_timeout_seconds unregister_model_timeout number_of_netty_threads
    netty_client_threads job_queue_size number_of_gpu async_logging cors_allowed_origin cors_allowed_methods
    cors_allowed_headers decode_input_request keystore keystore_pass keystore_type certificate_file
    private_key_file max_request_size max_response_size default_service_handler preload_model model_store
    prefer_direct_buffer
    """.split()
)

# The name under which MMS knows the one model of single-model mode. Callers never see it.
SINGLE_MODEL_NAME = "model"

_SECONDS_PER_HOUR = 3600


def server_properties(
    settings: Settings, handler: str, workers: int, event_loops: int, directory: Path
) -> dict[str, str]:
    """The properties for these settings.

    Args:
        handler: The handler service of models that name none, in MMS's notation.
        workers: Worker processes per model.
        event_loops: Threads that serve connections.
        directory: The server's private directory.
    """
    address = f"http://0.0.0.0:{settings.bind_to_port}"
    properties = {
        "enable_envvars_config": "true",
        "inference_address": address,
        # The contract wants both interfaces on one port for several models. With a single model nobody outside
        # may load another one: anybody who can, can run code here.
        "management_address": address if settings.multi_model else f"unix:{directory / 'management.sock'}",
        "model_store": "/",
        "default_service_handler": handler,
        "default_workers_per_model": str(workers),
        "job_queue_size": str(settings.model_server_job_queue_size),
        "max_request_size": str(settings.max_payload_bytes),
        "max_response_size": str(settings.max_payload_bytes),
        "default_response_timeout_seconds": str(backstop_seconds(settings)),
        "unregister_model_timeout": "60",
        "decode_input_request": "false",
        "preload_model": "false",
        "number_of_netty_threads": str(event_loops),
        # Each run starts a Python process; once in 24 days is as seldom as the property's range permits.
        "metric_time_interval": "2147483",
    }
    if not settings.multi_model:
        properties["load_models"] = f"{SINGLE_MODEL_NAME}={settings.model_dir}"
    return properties


def backstop_seconds(settings: Settings) -> int:
    """MMS's one time-out for a load and a request alike, out of the way.

    The zygote keeps the two limits. When this one runs out the front end gives the worker's connection up
    (Worker.java), so it must come after all that the zygote may need: the load's tries, and a request behind them.
    """
    return 4 * settings.startup_timeout + settings.model_server_timeout + _SECONDS_PER_HOUR


def overridden(properties: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The properties that will be in force: MMS_* variables overrule what was written."""
    overrides = {key: environ["MMS_" + key.upper()] for key in OVERRIDABLE if "MMS_" + key.upper() in environ}
    return {**properties, **overrides}


def sizes_in_force(size: Sizing, properties: Mapping[str, str], environ: Mapping[str, str]) -> Sizing:
    """The sizes, with what MMS_* variables make of them.

    Args:
        properties: Those that will be in force.

    Raises:
        PreflightError: a variable holds no number.
    """
    workers = number(properties, "default_workers_per_model")
    loops = number(properties, "number_of_netty_threads")
    if workers != size.workers.value:
        # 0 is for models that get their workers later.
        size = size.with_workers(Size(max(1, workers), "MMS_DEFAULT_WORKERS_PER_MODEL"), environ)
    if loops != size.event_loops.value:
        size = size._replace(event_loops=Size(loops, "MMS_NUMBER_OF_NETTY_THREADS"))
    return size


def number(properties: Mapping[str, str], key: str) -> int:
    """A property that is a whole number.

    Raises:
        PreflightError: it is none; then it comes from the environment.
    """
    try:
        return int(properties[key])
    except ValueError:
        name = "MMS_" + key.upper()
        raise PreflightError(f"{name}={properties[key]!r}: expected a whole number.") from None


def without_blacklisted(environ: Mapping[str, str], properties: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that blacklist_env_vars, a regular expression, keeps from handlers.

    Raises:
        PreflightError: it is no regular expression.
    """
    pattern = properties.get("blacklist_env_vars", "")
    try:
        return {name: value for name, value in environ.items() if not re.fullmatch(pattern, name)}
    except re.error as error:
        raise PreflightError(f"MMS_BLACKLIST_ENV_VARS={pattern!r}: not a regular expression: {error}.") from None


def render(properties: Mapping[str, str]) -> str:
    """The text of a properties file, in the escapes of java.util.Properties.load()."""
    return "".join(f"{_escape(key)}={_escape(value)}\n" for key, value in sorted(properties.items()))


def _escape(text: str) -> str:
    escaped = re.sub(r"([\\=:#! ])", r"\\\1", text)
    return "".join(_escape_character(character) for character in escaped)


def _escape_character(character: str) -> str:
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


# MMS takes no port from here on.
_PORTS = 32767

Address = Union[tuple[str, int], Path]


def parse_address(address: str) -> Address:
    """Host and port, or the path of a unix socket, of an address in MMS's notation (Connector.java).

    Raises:
        PreflightError: MMS would refuse the text.
    """
    match = re.fullmatch(r"(https?)://([^:^/]+)(?::(\d+))?|unix:(/.*)", address, re.IGNORECASE)
    if not match or int(match[3] or 0) >= _PORTS:
        raise PreflightError(
            f"MMS_INFERENCE_ADDRESS={address!r}: expected http://HOST:PORT, with a port below {_PORTS}, or unix:/PATH."
        )
    scheme, host, port, path = match.groups()
    if path:
        return Path(path)
    return host, int(port) if port else (443 if scheme.lower() == "https" else 80)
