# SPDX-License-Identifier: Apache-2.0
"""How the zygote's children come to be: workers, and the heir or the keeper that forks workers in its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.runtime import standard_streams
from sagemaker_inference_lite.runtime.processes import adopt_orphans
from sagemaker_inference_lite.worker import worker
from sagemaker_inference_lite.worker.spec import GO, Birth, Inheritance, live, of_order, to_order
from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.import_template import Succession
from sagemaker_inference_lite.zygote.model_template import SharedModel, become_keeper
from sagemaker_inference_lite.zygote.models import Slot
from sagemaker_inference_lite.zygote.parent import Supervisor
from sagemaker_inference_lite.zygote.template import become_candidate

# The longest that an heir may import.
_IMPORT_SECONDS = 60


class Nursery:
    """Forks workers, or has a nurse fork them: one that shares with them what others have imported, or loaded.

    Args:
        loop: The zygote's.
        inheritance: What all workers have in common.
        supervisor: Told of each process, whose output it reads.
    """

    def __init__(self, loop: EventLoop, inheritance: Inheritance, supervisor: Supervisor) -> None:
        self._loop = loop
        self._inheritance = inheritance
        self._supervisor = supervisor
        self._nurse = self._find_nurse()

    def _find_nurse(self) -> Succession | SharedModel | None:
        settings = self._inheritance.settings
        wanted = settings.model_server_share_imports if settings.multi_model else settings.model_server_share_model
        if not adopt_orphans() or not wanted:
            return None
        if settings.multi_model:
            return Succession(self._loop, self._fork_candidate, min(settings.startup_timeout, _IMPORT_SECONDS))
        return SharedModel(self._loop, self._fork_keeper, settings.startup_timeout)

    # -- workers --

    def is_expecting(self, load: wire.Load) -> bool:
        """Whether a nurse is about to come that shares what a worker, forked now, would import or load by itself."""
        return self._nurse is not None and not _loads_anew(load) and self._nurse.is_expecting(load)

    def bear(self, slot: Slot, packages: Path, refusal: worker.Refusal | None) -> tuple[int, socket.socket]:
        """Fork a worker that serves a slot.

        Args:
            packages: Where packages of its model's own are, or are to be installed.
            refusal: None, or why it refuses one request instead of loading.

        Returns:
            Its pid, and where it says what it has done.

        Raises:
            OSError: No process, no memory or no more open files.
        """
        assert slot.load is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with ExitStack() as stack, theirs:
            reads, writes = _outputs(stack)
            birth = Birth(slot.load, slot.connection, slot.page, theirs, writes, str(packages), refusal)
            pid = self._have_born(birth, ours) or self._fork_worker(birth, (*reads, ours.fileno()))
            self._supervisor.tell({"event": "worker", "model": slot.model_name, "pid": pid}, reads)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
        return pid, ours

    def _have_born(self, birth: Birth, ours: socket.socket) -> int | None:
        if self._nurse is None or birth.refusal is not None or _loads_anew(birth.load):
            return None
        pid = self._nurse.bear(*to_order(birth))
        if pid is not None:
            ours.send(GO)
        return pid

    def _fork_worker(self, birth: Birth, foreign: tuple[int, ...]) -> int:
        kept, zygote = birth.connection.sock.fileno(), os.getpid()
        pid = _fork()
        if pid == 0:
            live(birth, self._inheritance, zygote, lambda: self._close_inherited(foreign, kept))
        return pid

    # -- nurses --

    def holders(self) -> Sequence[int]:
        """The processes, other than workers, that run a model's code."""
        return self._nurse.holders() if self._nurse is not None else ()

    def consider(self, modules: Sequence[str]) -> None:
        """Take in what a worker's load had to import of the image's packages."""
        if self._nurse is not None:
            self._nurse.consider(modules)

    def ended(self, pid: int) -> None:
        """Take in that a child of the zygote has ended."""
        if self._nurse is not None:
            self._nurse.ended(pid)

    def _fork_candidate(self, control: socket.socket, ours: socket.socket, modules: Sequence[str]) -> int:
        inheritance, zygote = self._inheritance, os.getpid()
        pid = _fork()
        if pid == 0:
            ours.close()
            self._close_inherited()
            become_candidate(
                control,
                modules,
                zygote,
                lambda order, files: live(of_order(order, files, inheritance), inheritance, zygote),
            )
        return pid

    def _fork_keeper(self, control: socket.socket, load: wire.Load) -> int:
        zygote = os.getpid()
        with ExitStack() as stack:
            reads, writes = _outputs(stack)
            pid = _fork()
            if pid == 0:
                self._close_inherited(reads)
                become_keeper(control, load, writes, self._inheritance, zygote)
            self._supervisor.tell({"event": "worker", "model": load.model_name, "pid": pid}, reads)
        return pid

    def _close_inherited(self, foreign: tuple[int, ...] = (), kept: int = -1) -> None:
        """Close the connections of others: one that is held here would not end where its owner ends it."""
        for descriptor in foreign:
            os.close(descriptor)
        self._loop.close_in_child(kept)


def _loads_anew(load: wire.Load) -> bool:
    """Whether a worker has to load by itself what others share: it has changed since."""
    return load.generation > 0


def _fork() -> int:
    # What has not been written yet would be written twice.
    standard_streams.flush()
    return os.fork()


def _outputs(stack: ExitStack) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a child's stdout and stderr are read, and where it writes them. All are closed with the stack."""
    (out_read, out_write), (err_read, err_write) = _pipe(stack), _pipe(stack)
    return (out_read, err_read), (out_write, err_write)


def _pipe(stack: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends
