# SPDX-License-Identifier: Apache-2.0
"""This machine, or this container: what a server needs of it, and what it would make of it."""

from __future__ import annotations

import ast
import importlib.util
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from sagemaker_inference_lite.errors import LaunchError, PortInUseError, PreflightError, SettingsError
from sagemaker_inference_lite.inspection.findings import Finding, Level
from sagemaker_inference_lite.launch.preflight import check_address, check_model_directory
from sagemaker_inference_lite.machine import sizing
from sagemaker_inference_lite.mms import cds_archive, command, java, native_library, properties
from sagemaker_inference_lite.settings import Settings, listing, warnings_for

OLDEST_PYTHON, NEWEST_PYTHON = (3, 9), (3, 13)
_LEAST_FREE_BYTES = 100_000_000
_LEAST_OPEN_FILES = 1024
_MODULES_OF_EXTRAS = {"fast": ("pyarrow", "simdjson"), "sparse": ("scipy",), "local": ("rich", "watchfiles")}


def inspect_machine(environ: Mapping[str, str]) -> list[Finding]:
    """What there is to say of the Python, the Java, the settings and the machine at hand.

    Args:
        environ: The environment in which a server would be started.
    """
    found = [*_python(), *_java(environ), *_temporary_directory(), *_open_files(), *_extras()]
    try:
        settings = properties.read_settings(environ)
    except SettingsError as error:
        return [*found, *(Finding(Level.ERROR, problem) for problem in error.problems)]
    found += [*_settings(environ), *_sizes(settings, environ), *_port(settings), *_model(settings), *_handler(settings)]
    return found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    is_tried = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    if is_tried:
        yield Finding(Level.OK, f"Python {version}")
    else:
        tried = f"{'.'.join(map(str, OLDEST_PYTHON))} to {'.'.join(map(str, NEWEST_PYTHON))}"
        yield Finding(Level.WARNING, f"Python {version} has not been tried with this library.", f"Use one of {tried}.")


def _java(environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        jar = command.find_model_server_jar()
        found = java.find_java(environ)
    except PreflightError as error:
        yield Finding(Level.ERROR, str(error))
        return
    yield Finding(Level.OK, f"Java {found.version} ({found.source}: {found.executable})")
    yield Finding(Level.OK, f"Multi Model Server ({jar})")
    if cds_archive.find(found, command.class_path(jar)) is None and found.version >= cds_archive.OLDEST_VERSION:
        yield Finding(
            Level.OK,
            "No archive of Java's classes: a server starts in 0.6 s, and with one in 0.4 s.",
            "In an image: RUN sagemaker-inference-lite prepare",
        )
    if native_library.find(jar) is None:
        try:
            with tempfile.TemporaryDirectory() as directory:
                native_library.check_directory(Path(directory))
        except LaunchError as error:
            yield Finding(Level.ERROR, str(error))


def _temporary_directory() -> Iterator[Finding]:
    try:
        with tempfile.NamedTemporaryFile() as file:
            directory, free = Path(file.name).parent, shutil.disk_usage(file.name).free
    except OSError as error:
        yield Finding(
            Level.ERROR,
            f"No temporary file can be written: {error.strerror or error}.",
            "Set TMPDIR to a directory that this user may write to.",
        )
        return
    level = Level.OK if free >= _LEAST_FREE_BYTES else Level.WARNING
    mend = "" if level is Level.OK else "A server writes its sockets and unpacked models there."
    yield Finding(level, f"{directory} can be written to, {free / 1e6:,.0f} MB free", mend)


def _open_files() -> Iterator[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = sizing.most_workers(most)
    if most != resource.RLIM_INFINITY and most < _LEAST_OPEN_FILES:
        yield Finding(
            Level.WARNING,
            f"{most} files may be open, enough for {workers} {'worker' if workers == 1 else 'workers'}.",
            "Raise it: ulimit -n, or docker run --ulimit nofile=65536.",
        )
    else:
        shown = "any number of" if most == resource.RLIM_INFINITY else f"{most}"
        yield Finding(Level.OK, f"{shown} files may be open, enough for {workers} workers")


def _extras() -> Iterator[Finding]:
    there = [
        extra
        for extra, modules in _MODULES_OF_EXTRAS.items()
        if all(importlib.util.find_spec(module) is not None for module in modules)
    ]
    yield Finding(Level.OK, f"Extras: {', '.join(there) or 'none'}")


def _settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    for sentence in (*warnings_for(environ), *properties.warnings_for(environ)):
        yield Finding(Level.WARNING, sentence)
    for row in listing(environ, properties.OVERRULED_BY):
        if row.source != "default":
            by = "" if row.source == row.name else f", set by {row.source}"
            yield Finding(Level.OK, f"{row.name}={row.value}{by}")


def _sizes(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield Finding(Level.OK, str(sizing.sizing(settings, environ)))


def _port(settings: Settings) -> Iterator[Finding]:
    port = settings.bind_to_port
    try:
        check_address(("0.0.0.0", port))
    except PortInUseError as error:
        yield Finding(Level.ERROR, f"{str(error).partition('.')[0]}{_listener(port)}.", str(error).partition(". ")[2])
    except PreflightError as error:
        yield Finding(Level.ERROR, str(error))
    else:
        yield Finding(Level.OK, f"Port {port} is free")


def _listener(port: int) -> str:
    """Who listens there, where that can be seen."""
    try:
        for each in psutil.net_connections("inet"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port and each.pid:
                return f" by {psutil.Process(each.pid).name()} (pid {each.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def _model(settings: Settings) -> Iterator[Finding]:
    if settings.multi_model:
        yield Finding(Level.OK, "Several models: they are loaded as the platform asks for them")
        return
    try:
        check_model_directory(settings.model_dir)
    except PreflightError as error:
        # On a laptop there is none, and nothing is wrong.
        level = Level.ERROR if settings.base_dir.is_dir() else Level.OK
        yield Finding(level, str(error))
    else:
        yield Finding(Level.OK, f"The model directory {settings.model_dir}")


def _handler(settings: Settings) -> Iterator[Finding]:
    """A handler that is a file: whether it is there, is Python, and has what it is named by. It is not run."""
    if settings.handler is None:
        yield Finding(Level.OK, "Handler: the default handler service")
        return
    place, colon, name = settings.handler.rpartition(":")
    file = Path(place if colon else settings.handler)
    if not (file.suffix == ".py" or os.sep in str(file)):
        yield Finding(Level.OK, f"Handler: the module {settings.handler}")
        return
    if not file.is_file():
        yield Finding(Level.ERROR, f"The handler {settings.handler} cannot be found: there is no file {file}.")
        return
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        yield Finding(Level.ERROR, f"The handler {file} is not Python: {error}")
        return
    definitions = (ast.FunctionDef, ast.ClassDef)
    defined = {each.name for each in tree.body if isinstance(each, definitions)}
    if name and name not in defined:
        yield Finding(
            Level.WARNING,
            f"The handler {file} defines no {name!r}; it defines {', '.join(sorted(defined)) or 'nothing'}.",
            "It may import it from elsewhere; if it does not, the server ends with status 4.",
        )
    else:
        yield Finding(Level.OK, f"Handler: {settings.handler}")
