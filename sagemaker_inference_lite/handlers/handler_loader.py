# SPDX-License-Identifier: Apache-2.0
"""From a ``handler_service`` to a callable, in every form that MMS takes (mms/model_loader.py).

The forms are ``/path/file.py:function``, ``package.module:function``, a module with a function ``handle``, and
a module with one class that has ``handle`` and, if it likes, ``initialize``. A relative file is looked for in
the directories given; what is not found as a file is imported as a module.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Optional

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import HandlerError
from sagemaker_inference_lite.handlers.import_path import import_by_own_name, put_first_on_path
from sagemaker_inference_lite.runtime import fork_guard
from sagemaker_inference_lite.runtime.printable import named

Handle = Callable[[Optional[list[dict[str, Any]]], Context], Any]

# The front end's limit too (ModelFiles.java).
_MOST_MANIFEST_BYTES = 1 << 20

_FORMS = "expected /path/file.py:function, package.module:function, or a module with a function handle or one class"


def split_handler(handler_service: str) -> tuple[str, str | None]:
    """The file or module, and the name after the last colon; None without one.

    Raises:
        HandlerError: one of the two is empty.
    """
    place, colon, name = handler_service.rpartition(":")
    if not colon:
        place, name = handler_service, ""
    if not place.strip() or (colon and not name.isidentifier()):
        raise HandlerError(f"The handler {handler_service!r} cannot be read; {_FORMS}.")
    return place, name or None


def import_handler(handler_service: str, directories: Sequence[Path]) -> Any:
    """Import a handler's module and find its entry point: a function, or a class not yet instantiated.

    Args:
        handler_service: In one of the forms above.
        directories: Where a relative file is looked for, in this order, before sys.path.

    Raises:
        HandlerError: it cannot be found, cannot be imported, or has no entry point. Names what and where.
    """
    place, name = split_handler(handler_service)
    path = _find_file(place, directories)
    if path is not None:
        module = _import_file(path, handler_service)
    elif place.endswith(".py") or os.sep in place:
        looked = [place] if os.path.isabs(place) else [str(Path(directory, place)) for directory in directories]
        raise HandlerError(
            f"The handler {handler_service!r} cannot be found: there is no file {', '.join(looked) or place}"
            f"{'' if os.path.isabs(place) else ', nor one on ' + _shown_path()}."
        )
    else:
        module = _import_module(place, handler_service)
    return _entry_point(module, name, handler_service)


def start_handler(entry_point: Any, context: Context) -> Handle:
    """Make the model ready: instantiate and initialize a class, or call a function once with no data, as MMS does.

    Raises:
        Exception: whatever the handler raises; the load has then failed.
    """
    if inspect.isclass(entry_point):
        service: Any = entry_point()
        if hasattr(service, "initialize"):
            service.initialize(context)
        handle: Handle = service.handle
        return handle
    entry_point(None, context)
    function: Handle = entry_point
    return function


def read_manifest(model_dir: str) -> dict[str, Any] | None:
    """MAR-INF/MANIFEST.json of a model archive, None where there is none.

    Raises:
        ValueError: it is not a regular file, is too large, or is not JSON.
    """
    path = os.path.join(model_dir, "MAR-INF", "MANIFEST.json")
    try:
        # Looked at before it is opened: to open a named pipe is to wait for somebody who writes.
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"The manifest is not a regular file: {path}")
    if found.st_size > _MOST_MANIFEST_BYTES:
        raise ValueError(f"The manifest is larger than {_MOST_MANIFEST_BYTES} bytes: {path}")
    with open(path, encoding="utf-8") as file:
        manifest: dict[str, Any] = json.load(file)
        return manifest


def _find_file(file: str, directories: Sequence[Path]) -> Path | None:
    if os.sep not in file and not file.endswith(".py"):
        return None
    name = file if file.endswith(".py") else file + ".py"
    places = [Path("/")]
    if not os.path.isabs(name):
        # MMS imports it under its last name, from wherever Python finds modules.
        places = [*directories, *map(Path, filter(None, sys.path))]
    candidates = (place / name for place in places)
    return next((path.resolve() for path in candidates if path.is_file()), None)


def _import_file(path: Path, handler_service: str) -> ModuleType:
    """Import a file under its own name, its directory first on sys.path, so that what lies beside it imports."""
    put_first_on_path(path.parent)
    try:
        return import_by_own_name(path)
    except BaseException as error:
        raise _import_failed(handler_service, str(path), error) from error


def _import_module(name: str, handler_service: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the handler imports and that is missing is another mistake than a handler that is missing.
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise HandlerError(
                f"The handler {handler_service!r} cannot be found: there is no module {error.name!r} "
                f"on {_shown_path()}."
            ) from error
        raise _import_failed(handler_service, name, error) from error
    except BaseException as error:
        raise _import_failed(handler_service, name, error) from error


def _shown_path() -> str:
    return f"sys.path, which is {[entry for entry in sys.path if entry]}"


def _import_failed(handler_service: str, place: str, error: BaseException) -> BaseException:
    fork_guard.end_if_forked(error)
    if isinstance(error, (KeyboardInterrupt, MemoryError)):
        return error
    return HandlerError(f"The handler {handler_service!r} cannot be imported from {place}: {named(error)}")


def _entry_point(module: ModuleType, name: str | None, handler_service: str) -> Any:
    named = getattr(module, name or "handle", None)
    if inspect.isclass(named) or callable(named):
        return named
    classes = [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and member.__module__ == module.__name__
        and callable(getattr(member, "handle", None))
    ]
    if len(classes) == 1:
        return classes[0]
    found = f"{len(classes)} classes with a method handle" if classes else "no class with a method handle"
    raise HandlerError(
        f"The handler {handler_service!r} has no entry point: {module.__name__} "
        f"({getattr(module, '__file__', 'built in')}) has no function {name or 'handle'!r} and {found}."
    )
