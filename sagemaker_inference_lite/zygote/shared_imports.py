# SPDX-License-Identifier: Apache-2.0
"""What the zygote imports for all workers to share, and its new start without what a fork would not survive.

Whether an import leaves something behind that a fork breaks is known only when it is there. Then this process, its
locks and its libraries' state are spoiled for good: it is executed afresh, under the same pid and with the same
connection to the supervisor, and leaves that import to the workers.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NoReturn

from sagemaker_inference_lite.errors import HandlerError
from sagemaker_inference_lite.handlers.handler_loader import import_handler
from sagemaker_inference_lite.runtime import fork_guard, fork_safety, standard_streams
from sagemaker_inference_lite.runtime.printable import named
from sagemaker_inference_lite.zygote.parent import Supervisor

# Run as a program, the zygote is what its users know.
logger = logging.getLogger("sagemaker_inference_lite.zygote")

PRELOAD = "SAGEMAKER_MODEL_SERVER_PRELOAD"


class UnsafeImportError(Exception):
    """What was imported must not be shared.

    Attributes:
        name: What was imported: a module, or the handler service.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def import_ahead(modules: Sequence[str], not_imported: Collection[str], supervisor: Supervisor) -> None:
    """Import what SAGEMAKER_MODEL_SERVER_PRELOAD names.

    Args:
        not_imported: Names among them that are left out.

    Raises:
        HandlerError: one cannot be imported.
        UnsafeImportError: one must not be shared.
    """
    for module in modules:
        if module not in not_imported:
            supervisor.tell({"event": "importing", "what": f"{module!r} ({PRELOAD})"})
            _import_to_share(module, functools.partial(_preload, module))


def entry_point_finder(
    handler: str, directories: Sequence[Path], not_imported: Collection[str], supervisor: Supervisor
) -> Callable[[], Any]:
    """Import the handler service; a function that returns its entry point.

    Args:
        directories: Where a relative file is looked for.
        not_imported: Where the handler is named here, the function imports it, and nothing is imported now.

    Raises:
        HandlerError: it cannot be imported.
        UnsafeImportError: it must not be shared.
    """
    find = functools.partial(import_handler, handler, directories)
    if handler in not_imported:
        return find
    supervisor.tell({"event": "importing", "what": "the handler"})
    entry_point = _import_to_share(handler, find)
    return lambda: entry_point


def start_afresh(unsafe: UnsafeImportError, module: str, environ: Mapping[str, str]) -> NoReturn:
    """Execute this program anew, and leave that import to the workers.

    Args:
        module: The program's.
        environ: Its environment, as it was before anything was imported.
    """
    what = (
        f"the module {unsafe.name} ({PRELOAD})" if _is_preloaded(unsafe.name, environ) else f"the handler {unsafe.name}"
    )
    logger.warning(
        "%s cannot be imported once for all workers, because its import %s. Each worker imports it by itself, which "
        "takes more time and memory. To avoid that, leave it to the load of the model",
        what,
        unsafe,
    )
    standard_streams.flush()
    standard_streams.occupy()  # what was imported may have closed them
    isolated = ["-P"] if getattr(sys.flags, "safe_path", False) else []
    argv = [sys.executable, *isolated, "-m", module, *sys.argv[1:], f"--not-imported={unsafe.name}"]
    os.execve(sys.executable, argv, dict(environ))


def _is_preloaded(name: str, environ: Mapping[str, str]) -> bool:
    return name in environ.get(PRELOAD, "").replace(" ", "").split(",")


def _import_to_share(name: str, importer: Callable[[], Any]) -> Any:
    before = fork_safety.held()
    try:
        with fork_safety.ImportWatch() as watch:
            imported = importer()
    except BaseException as error:
        fork_guard.end_if_forked(error)
        raise
    fork_guard.end_if_forked()
    reason = fork_safety.why_unsafe(before, watch.harmless())
    if reason:
        culprits = ", ".join(watch.culprits())
        raise UnsafeImportError(name, f"{reason} (in {culprits})" if culprits else reason)
    return imported


def _preload(module: str) -> None:
    try:
        importlib.import_module(module)
    except BaseException as error:
        fork_guard.end_if_forked(error)
        raise HandlerError(f"{PRELOAD} names {module!r}, which cannot be imported: {named(error)}") from error
