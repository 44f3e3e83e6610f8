# SPDX-License-Identifier: Apache-2.0
"""MMS's configuration: which properties it gets, and how they are written (ConfigManager.java:58-96)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Union

from sagemaker_inference_lite.errors import SettingsError
from sagemaker_inference_lite.machine.sizing import Size, Sizing
from sagemaker_inference_lite.settings import Settings, quoted

PREFIX = "MMS_"

# What ConfigManager takes from the environment as "MMS_" + the key in upper case, and what is in force here.
OVERRIDABLE = frozenset(
    """
    inference_address management_address load_models blacklist_env_vars default_workers_per_model
    number_of_netty_threads job_queue_size number_of_gpu cors_allowed_origin cors_allowed_methods cors_allowed_headers
    decode_input_request keystore keystore_pass keystore_type certificate_file private_key_file max_request_size
    max_response_size default_service_handler model_store
    """.split()
)

# How long a request may take. MMS takes the first for minutes, whatever its documentation says, and both for a load
# too: here both are seconds, as users of asynchronous endpoints are told to write them.
_REQUEST_LIMIT = ("MMS_DEFAULT_RESPONSE_TIMEOUT_SECONDS", "MMS_DEFAULT_RESPONSE_TIMEOUT")

# Settings of ours that MMS's own variables overrule.
OVERRULED_BY = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": _REQUEST_LIMIT}
_LIMIT_OF_OURS = "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"

_OVERRULING = {
    _LIMIT_OF_OURS: _REQUEST_LIMIT,
    "SAGEMAKER_MODEL_SERVER_WORKERS": ("MMS_DEFAULT_WORKERS_PER_MODEL",),
    "SAGEMAKER_HANDLER": ("MMS_DEFAULT_SERVICE_HANDLER",),
}

# What MMS knows and does nothing here, with what does it instead.
WITHOUT_EFFECT = {
    "MODEL_SERVER_HOME": "workers are this library's own",
    "MMS_CONFIG_FILE": "this library writes the server's configuration; set what is in it one by one",
    "MMS_DEBUG": "SAGEMAKER_CONTAINER_LOG_LEVEL=DEBUG logs more, and SAGEMAKER_MODEL_SERVER_TIMEOUT limits a request",
    "MMS_ASYNC_LOGGING": "the front end's log is this library's; SAGEMAKER_CONTAINER_LOG_LEVEL sets what is in it",
    "MMS_NETTY_CLIENT_THREADS": "the threads that serve clients speak with workers too; MMS_NUMBER_OF_NETTY_THREADS "
    "says how many there are",
    "MMS_PREFER_DIRECT_BUFFER": "bodies are sent from the memory that they were received into",
    "MMS_UNREGISTER_MODEL_TIMEOUT": "DELETE waits as long as a request may take, SAGEMAKER_MODEL_SERVER_TIMEOUT",
    "MMS_PRELOAD_MODEL": "SAGEMAKER_MODEL_SERVER_SHARE_MODEL loads one model for all its workers, and "
    "SAGEMAKER_MODEL_SERVER_PRELOAD imports modules for all models",
    # Those that MMS itself reads from its file alone.
    "MMS_MODEL_SERVER_HOME": "workers are this library's own",
    "MMS_USE_NATIVE_IO": "the native transport is always used",
    "MMS_IO_RATIO": "event loops do nothing but input and output",
    "MMS_METRIC_TIME_INTERVAL": "no metrics are collected",
    "MMS_ENABLE_ENVVARS_CONFIG": "variables are always heeded",
    "MMS_VMARGS": "SAGEMAKER_MODEL_SERVER_VMARGS has options of Java's",
    "MMS_PLUGINS_PATH": "the front end has this library's plug-ins alone",
}

# Numbers, with the least that each may be.
_LEAST = {
    "default_workers_per_model": 0,
    "number_of_netty_threads": 0,
    "job_queue_size": 1,
    "number_of_gpu": 0,
    "max_request_size": 1,
    "max_response_size": 1,
}
_JAVA_INT_MAX = 2**31 - 1

# The name under which MMS knows the one model of single-model mode. Callers never see it.
SINGLE_MODEL_NAME = "model"

_SECONDS_PER_HOUR = 3600

# The variables that say which locale there is, the one that wins first.
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")
_LOCALE_OF_UTF_8 = "C.UTF-8"


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


def without_overruling(environ: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """The environment without what would overrule these variables of ours."""
    left_out = {other for name in names for other in _OVERRULING.get(name, ())}
    return {name: value for name, value in environ.items() if name not in left_out}


def listening_at(host: str, port: int, with_management: bool) -> dict[str, str]:
    """The variables that make the front end listen at one address instead of at all of the machine's.

    Args:
        with_management: Whether models are loaded and unloaded there too.
    """
    address = f"http://{host}:{port}"
    names = ["MMS_INFERENCE_ADDRESS", *(["MMS_MANAGEMENT_ADDRESS"] if with_management else [])]
    return dict.fromkeys(names, address)


def backstop_seconds(settings: Settings) -> int:
    """MMS's one time-out for a load and a request alike, out of the way.

    The zygote keeps the two limits. When this one runs out the front end gives the worker's connection up
    (WorkerConnection.java), so it must come after all that the zygote may need: the load's tries, and a request behind
    them.
    """
    return 4 * settings.startup_timeout + settings.model_server_timeout + _SECONDS_PER_HOUR


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that are in force, by SAGEMAKER_* variables and by those of MMS that overrule them.

    Raises:
        SettingsError: one or more values cannot be used; it names them all, of either kind.
    """
    problems = _problems(environ)
    try:
        settings = Settings.from_environ(environ, OVERRULED_BY)
    except SettingsError as error:
        raise SettingsError([*error.problems, *problems]) from None
    if problems:
        raise SettingsError(problems)
    return settings


def _problems(environ: Mapping[str, str]) -> list[str]:
    problems = []
    for key in sorted(OVERRIDABLE):
        name = PREFIX + key.upper()
        expected = _expected(key, environ[name]) if name in environ else ""
        if expected:
            problems.append(f"{name}={quoted(environ[name])}: expected {expected}")
    return problems


def _expected(key: str, value: str) -> str:
    """What the front end expects of a property; "" where the value is that."""
    if key in _LEAST and not (re.fullmatch("[0-9]{1,10}", value) and _LEAST[key] <= int(value) <= _JAVA_INT_MAX):
        return f"a whole number from {_LEAST[key]} to {_JAVA_INT_MAX}"
    if key in ("inference_address", "management_address") and not _is_address(value):
        return _ADDRESSES
    if key == "blacklist_env_vars":
        try:
            re.compile(value)
        except re.error as error:
            return f"a regular expression ({error})"
    return ""


def environment_of_workers(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment for processes that know SAGEMAKER_* variables alone."""
    limit = {_LIMIT_OF_OURS: str(settings.model_server_timeout)} if set(_REQUEST_LIMIT) & set(environ) else {}
    return {**environ, **limit}


def environment_of_front_end(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for Java: what has another meaning there, or would make it look elsewhere, is left out.

    The names of files are text in UTF-8 there, whatever the locale.
    """
    left_out = {*WITHOUT_EFFECT, *_REQUEST_LIMIT}
    kept = {name: value for name, value in environ.items() if name not in left_out}
    locale = next((environ[name] for name in _LOCALE if environ.get(name)), "")
    return kept if re.search("utf-?8", locale, re.IGNORECASE) else {**kept, "LC_ALL": _LOCALE_OF_UTF_8}


def warnings_for(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable of MMS's that does nothing here, and for each that looks like one and is none."""
    return [sentence for name in sorted(environ) if (sentence := _warning(name, environ[name]))]


def _warning(name: str, value: str) -> str:
    if name in WITHOUT_EFFECT:
        return f"{name}={quoted(value)} has no effect: {WITHOUT_EFFECT[name]}"
    heeded = [*(PREFIX + key.upper() for key in OVERRIDABLE), *_REQUEST_LIMIT]
    if not name.startswith(PREFIX) or name in heeded:
        return ""
    near = difflib.get_close_matches(name, heeded, n=1, cutoff=0.8)
    return f"{name} is not a variable of Multi Model Server and is ignored" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def overridden(properties: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The properties that will be in force: MMS_* variables overrule what was written."""
    overrides = {key: environ[PREFIX + key.upper()] for key in OVERRIDABLE if PREFIX + key.upper() in environ}
    return {**properties, **overrides}


def sizes_in_force(size: Sizing, properties: Mapping[str, str], environ: Mapping[str, str]) -> Sizing:
    """The sizes, with what MMS_* variables make of them.

    Args:
        properties: Those that will be in force.
    """
    workers = int(properties["default_workers_per_model"])
    loops = int(properties["number_of_netty_threads"])
    if workers != size.workers.value:
        # 0 is for models that get their workers later.
        size = size.with_workers(Size(max(1, workers), "MMS_DEFAULT_WORKERS_PER_MODEL"), environ)
    if loops != size.event_loops.value:
        size = size._replace(event_loops=Size(loops, "MMS_NUMBER_OF_NETTY_THREADS"))
    return size


def without_blacklisted(environ: Mapping[str, str], properties: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that blacklist_env_vars, a regular expression, keeps from handlers."""
    pattern = properties.get("blacklist_env_vars", "")
    return {name: value for name, value in environ.items() if not re.fullmatch(pattern, name)}


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

_ADDRESS = re.compile(r"(https?)://([^:^/]+)(?::(\d+))?|unix:(/.*)", re.IGNORECASE)
_ADDRESSES = f"http://HOST:PORT, with a port below {_PORTS}, or unix:/PATH"


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    return match is not None and int(match[3] or 0) < _PORTS


def parse_address(address: str) -> Address:
    """Host and port, or the path of a unix socket, of an address in MMS's notation (Connector.java).

    Raises:
        ValueError: MMS would refuse the text, which read_settings() has found out before.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not _is_address(address):
        raise ValueError(f"{address!r} is not an address: expected {_ADDRESSES}")
    scheme, host, port, path = match.groups()
    if path:
        return Path(path)
    return host, int(port) if port else (443 if scheme.lower() == "https" else 80)
