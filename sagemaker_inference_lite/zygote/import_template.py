# SPDX-License-Identifier: Apache-2.0
"""Which heir the zygote has, which one is about to come, and what no heir is to import again."""

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
from sagemaker_inference_lite.zygote.template import LONGEST_MESSAGE, Heir

logger = logging.getLogger("sagemaker_inference_lite.zygote")

# How long loads wait for a candidate: they would import the same, and share nothing.
_PATIENCE_SECONDS = 10.0

# An heir that is killed, most likely for memory, would be again.
_MAX_DEATHS = 3

# Names that loads have asked for, all models together. A model can name anything.
_MOST_MODULES = 50_000

# What the names of one candidate's modules may take in a message; the others are the next one's.
_MOST_BYTES = 60_000

# Of the packages' names, in one line of the log.
_MOST_SHOWN = 5

# Forks the first candidate: called with its end of the control socket, the zygote's, and what it is to import.
ForkCandidate = Callable[[socket.socket, socket.socket, Sequence[str]], int]


class Succession:
    """Decides when there is to be a new heir, and asks the present one to fork.

    Args:
        loop: The zygote's.
        fork_candidate: Forks a candidate from the zygote itself, where there is no heir yet; its pid.
        limit_seconds: The longest that a candidate may take to import.
    """

    def __init__(self, loop: EventLoop, fork_candidate: ForkCandidate, limit_seconds: float) -> None:
        self._loop = loop
        self._limit_seconds = limit_seconds
        self._fork_candidate = fork_candidate
        self._heir: Heir | None = None
        self._candidate: Heir | None = None
        self._candidate_at = ""
        self._expected_until = 0.0
        # Modules of the image that loads had to import, in the order in which they did.
        self._wanted: dict[str, None] = {}
        self._imported: set[str] = set()
        self._refused: set[str] = set()
        self._deaths = 0

    def consider(self, modules: Sequence[str]) -> None:
        """Take in what a load had to import of the image's packages. There will be an heir that has imported it."""
        if len(self._wanted) < _MOST_MODULES:
            self._wanted.update(dict.fromkeys(modules))
        if self._candidate is None:
            self._found()

    def holders(self) -> Sequence[int]:
        """None: an heir runs packages of the image, and no model's code."""
        return ()

    def is_expecting(self, load: wire.Load) -> bool:
        """Whether an heir is about to come that is worth waiting for, whatever is loaded."""
        return self._candidate is not None and time.monotonic() < self._expected_until

    def bear(self, order: dict[str, Any], files: Sequence[int]) -> int | None:
        """Have the heir fork a worker; its pid, or None where the zygote has to do it itself."""
        if self._heir is None:
            return None
        try:
            return self._heir.bear(order, files)
        except (OSError, ValueError) as error:
            logger.warning("%s; the zygote forks workers itself", error)
            self._lose_heir()
            return None

    def ended(self, pid: int) -> None:
        """Take in that a child of the zygote has ended."""
        for each in (self._heir, self._candidate):
            if each is not None and pid == each.pid:
                each.has_ended = True
        if self._heir is not None and self._heir.has_ended:
            logger.warning("the zygote's heir (pid %d) has ended; the zygote forks workers itself", pid)
            self._lose_heir()

    def _lose_heir(self) -> None:
        heir, self._heir = self._heir, None
        if heir is not None:
            self._kill(heir)
        self._imported.clear()
        self._deaths += 1
        if self._deaths > _MAX_DEATHS:
            logger.warning("nothing is imported ahead any more, after %d heirs that ended", self._deaths)
        elif self._candidate is None:
            self._found()

    # -- a candidate --

    def _found(self, is_waited_for: bool = True) -> None:
        modules = [name for name in self._wanted if name not in self._imported and not self._is_refused(name)]
        if not modules or self._deaths > _MAX_DEATHS:
            return
        # The modules of a package in a row, where the package that was begun first comes first.
        places = {name: place for place, name in reversed(list(enumerate(_package(name) for name in modules)))}
        modules.sort(key=lambda name: places[_package(name)])
        try:
            candidate = self._fork(list(_fitting(modules)))
        except (OSError, ValueError) as error:
            logger.warning("no heir of the zygote can be made: %s", error)
            return
        self._candidate = candidate
        if is_waited_for:
            self._expected_until = time.monotonic() + _PATIENCE_SECONDS
        self._candidate_at = ""
        self._loop.watch(candidate.control, functools.partial(self._hear, candidate))
        self._loop.later(_PATIENCE_SECONDS, functools.partial(self._say_late, candidate))
        self._loop.later(self._limit_seconds, functools.partial(self._give_up, candidate))

    def _fork(self, modules: list[str]) -> Heir:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                pid = self._heir.found(theirs, modules) if self._heir else self._fork_candidate(theirs, ours, modules)
        except (OSError, ValueError):
            ours.close()
            raise
        return Heir(pid, ours, modules)

    def _hear(self, candidate: Heir) -> None:
        try:
            said = json.loads(candidate.control.recv(LONGEST_MESSAGE) or b"{}")
        except (OSError, ValueError):
            said = {}
        if "at" in said:
            self._candidate_at = said["at"]
            return
        self._loop.unwatch(candidate.control)
        self._candidate = None
        if said and not said["unsafe"]:
            self._take_over(candidate, said)
        else:
            package = said.get("unsafe") or self._candidate_at
            reason = f"it {said['reason']}" if said else "the process that imported it has ended"
            self._refuse(candidate, package, reason)
        # Loads that have waited for one that was refused do not wait for another.
        self._found(is_waited_for=candidate is self._heir)

    def _take_over(self, heir: Heir, said: dict[str, Any]) -> None:
        self._refused.update(said["failed"])
        self._imported.update(said["imported"])
        packages = list(dict.fromkeys(map(_package, said["imported"])))
        shown = ", ".join(packages[:_MOST_SHOWN]) + (", ..." if len(packages) > _MOST_SHOWN else "")
        logger.info(
            "imported ahead in %.0f ms, for further workers to share: %d packages (%s)",
            said["milliseconds"],
            len(packages),
            shown,
        )
        logger.debug("imported ahead: %s", ", ".join(packages))
        if self._heir is not None:
            self._loop.drop(self._heir.control)  # it ends by itself
        self._heir = heir

    def _say_late(self, candidate: Heir) -> None:
        if candidate is self._candidate:
            logger.info("loads do not wait any longer for %s to be imported ahead", self._candidate_at or "the process")

    def _give_up(self, candidate: Heir) -> None:
        if candidate is self._candidate:
            self._loop.unwatch(candidate.control)
            self._candidate = None
            self._refuse(candidate, self._candidate_at, f"it takes longer than {self._limit_seconds:.0f} seconds")
            self._found(is_waited_for=False)

    def _refuse(self, candidate: Heir, package: str, reason: str) -> None:
        logger.warning("the package %s is not imported ahead: %s", package or "(none)", reason)
        # Without a name there is nothing to try again with less.
        self._refused.update([package] if package else candidate.modules)
        self._kill(candidate)

    def _kill(self, heir: Heir) -> None:
        self._loop.drop(heir.control)
        heir.kill()

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
