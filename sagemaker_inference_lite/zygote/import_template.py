# SPDX-License-Identifier: Apache-2.0
"""Which import template the zygote has, which one is about to come, and what no import template is to import again."""

from __future__ import annotations

import functools
import json
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.template import LONGEST_MESSAGE, Template

logger = logging.getLogger("sagemaker_inference_lite.zygote")

# How long loads wait for a pending template: they would import the same, and share nothing.
_PATIENCE_SECONDS = 10.0

# An import template that is killed, most likely for memory, would be again.
_MAX_DEATHS = 3

# Names that loads have asked for, all models together. A model can name anything.
_MOST_MODULES = 50_000

# What the names of one pending template's modules may take in a message; the others are the next one's.
_MOST_BYTES = 60_000

# Of the packages' names, in one line of the log.
_MOST_SHOWN = 5

# Forks the first pending template: called with its end of the control socket, the zygote's, and what it is to import.
ForkImportTemplate = Callable[[socket.socket, socket.socket, Sequence[str]], int]


class ImportTemplates:
    """Decides when there is to be a new import template, and asks the present one to fork.

    Args:
        loop: The zygote's.
        fork_template: Forks a pending template from the zygote itself, where there is no import template yet; its pid.
        limit_seconds: The longest that a pending template may take to import.
    """

    def __init__(self, loop: EventLoop, fork_template: ForkImportTemplate, limit_seconds: float) -> None:
        self._loop = loop
        self._limit_seconds = limit_seconds
        self._fork_template = fork_template
        self._template: Template | None = None
        self._pending: Template | None = None
        self._pending_at = ""
        self._expected_until = 0.0
        # Modules of the image that loads had to import, in the order in which they did.
        self._wanted: dict[str, None] = {}
        self._imported: set[str] = set()
        self._refused: set[str] = set()
        self._deaths = 0

    def note_imports(self, modules: Sequence[str]) -> None:
        """Note what a load had to import of the image's packages: an import template that has imported it will come."""
        if len(self._wanted) < _MOST_MODULES:
            self._wanted.update(dict.fromkeys(modules))
        if self._pending is None:
            self._fork_pending()

    def holders(self) -> Sequence[int]:
        """None: an import template runs packages of the image, and no model's code."""
        return ()

    def is_pending(self, load: wire.Load) -> bool:
        """Whether an import template is about to come that is worth waiting for, whatever is loaded."""
        return self._pending is not None and time.monotonic() < self._expected_until

    def spawn(self, order: dict[str, Any], files: Sequence[int]) -> int | None:
        """Have the import template fork a worker; its pid, or None where the zygote has to do it itself."""
        if self._template is None:
            return None
        try:
            return self._template.spawn(order, files)
        except (OSError, ValueError) as error:
            logger.warning("%s; the zygote forks workers itself", error)
            self._lose_template()
            return None

    def child_ended(self, pid: int) -> None:
        """Take in that a child of the zygote has ended."""
        for each in (self._template, self._pending):
            if each is not None and pid == each.pid:
                each.has_ended = True
        if self._template is not None and self._template.has_ended:
            logger.warning("the import template (pid %d) has ended; the zygote forks workers itself", pid)
            self._lose_template()

    def _lose_template(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            self._kill(template)
        self._imported.clear()
        self._deaths += 1
        if self._deaths > _MAX_DEATHS:
            logger.warning("nothing is imported ahead any more, after %d import templates that ended", self._deaths)
        elif self._pending is None:
            self._fork_pending()

    # -- a pending template --

    def _fork_pending(self, is_waited_for: bool = True) -> None:
        modules = [name for name in self._wanted if name not in self._imported and not self._is_refused(name)]
        if not modules or self._deaths > _MAX_DEATHS:
            return
        # The modules of a package in a row, where the package that was begun first comes first.
        places = {name: place for place, name in reversed(list(enumerate(_package(name) for name in modules)))}
        modules.sort(key=lambda name: places[_package(name)])
        try:
            pending = self._fork(list(_fitting(modules)))
        except (OSError, ValueError) as error:
            logger.warning("no import template of the zygote can be made: %s", error)
            return
        self._pending = pending
        if is_waited_for:
            self._expected_until = time.monotonic() + _PATIENCE_SECONDS
        self._pending_at = ""
        self._loop.watch(pending.control, functools.partial(self._on_message, pending))
        self._loop.later(_PATIENCE_SECONDS, functools.partial(self._report_late, pending))
        self._loop.later(self._limit_seconds, functools.partial(self._give_up, pending))

    def _fork(self, modules: list[str]) -> Template:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                pid = (
                    self._template.fork_template(theirs, modules)
                    if self._template
                    else self._fork_template(theirs, ours, modules)
                )
        except (OSError, ValueError):
            ours.close()
            raise
        return Template(pid, ours, modules)

    def _on_message(self, pending: Template) -> None:
        try:
            message = json.loads(pending.control.recv(LONGEST_MESSAGE) or b"{}")
        except (OSError, ValueError):
            message = {}
        if "at" in message:
            self._pending_at = message["at"]
            return
        self._loop.unwatch(pending.control)
        self._pending = None
        if message and not message["unsafe"]:
            self._take_over(pending, message)
        else:
            package = message.get("unsafe") or self._pending_at
            reason = f"it {message['reason']}" if message else "the process that imported it has ended"
            self._refuse(pending, package, reason)
        # Loads that have waited for one that was refused do not wait for another.
        self._fork_pending(is_waited_for=pending is self._template)

    def _take_over(self, template: Template, message: dict[str, Any]) -> None:
        self._refused.update(message["failed"])
        self._imported.update(message["imported"])
        packages = list(dict.fromkeys(map(_package, message["imported"])))
        shown = ", ".join(packages[:_MOST_SHOWN]) + (", ..." if len(packages) > _MOST_SHOWN else "")
        logger.info(
            "imported ahead in %.0f ms, for further workers to share: %d packages (%s)",
            message["milliseconds"],
            len(packages),
            shown,
        )
        logger.debug("imported ahead: %s", ", ".join(packages))
        if self._template is not None:
            self._loop.drop(self._template.control)  # it ends by itself
        self._template = template

    def _report_late(self, pending: Template) -> None:
        if pending is self._pending:
            logger.info("loads do not wait any longer for %s to be imported ahead", self._pending_at or "the process")

    def _give_up(self, pending: Template) -> None:
        if pending is self._pending:
            self._loop.unwatch(pending.control)
            self._pending = None
            self._refuse(pending, self._pending_at, f"it takes longer than {self._limit_seconds:.0f} seconds")
            self._fork_pending(is_waited_for=False)

    def _refuse(self, pending: Template, package: str, reason: str) -> None:
        logger.warning("the package %s is not imported ahead: %s", package or "(none)", reason)
        # Without a name there is nothing to try again with less.
        self._refused.update([package] if package else pending.modules)
        self._kill(pending)

    def _kill(self, template: Template) -> None:
        self._loop.drop(template.control)
        template.kill()

    def _is_refused(self, name: str) -> bool:
        return name in self._refused or _package(name) in self._refused


def _fitting(modules: Sequence[str]) -> Iterator[str]:
    """The first of them, as far as their names fit into a message."""
    room = _MOST_BYTES
    for name in modules:
        room -= len(json.dumps(name)) + len(", ")
        if room < 0:
            return
        yield name


def _package(name: str) -> str:
    return name.partition(".")[0]
