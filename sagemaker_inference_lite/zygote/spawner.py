# SPDX-License-Identifier: Apache-2.0
"""Forks the zygote's children: workers, and the template that forks workers in its place."""

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
from sagemaker_inference_lite.worker.spec import GO, WorkerDefaults, WorkerSpec, of_order, to_order, worker_main
from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.import_template import ImportTemplates
from sagemaker_inference_lite.zygote.model_template import ModelTemplate, become_model_template
from sagemaker_inference_lite.zygote.models import Slot
from sagemaker_inference_lite.zygote.parent import Supervisor
from sagemaker_inference_lite.zygote.template import TemplateSource, become_import_template

# The longest that an import template may import.
_IMPORT_SECONDS = 60


class Spawner:
    """Forks workers, or has a template fork them: one that shares with them what others have imported, or loaded.

    Args:
        loop: The zygote's.
        defaults: What all workers have in common.
        supervisor: Told of each process, whose output it reads.
    """

    def __init__(self, loop: EventLoop, defaults: WorkerDefaults, supervisor: Supervisor) -> None:
        self._loop = loop
        self._defaults = defaults
        self._supervisor = supervisor
        self._templates = self._find_templates()

    def _find_templates(self) -> TemplateSource | None:
        settings = self._defaults.settings
        wanted = settings.model_server_share_imports if settings.multi_model else settings.model_server_share_model
        if not adopt_orphans() or not wanted:
            return None
        if settings.multi_model:
            return ImportTemplates(
                self._loop, self._fork_import_template, min(settings.startup_timeout, _IMPORT_SECONDS)
            )
        return ModelTemplate(self._loop, self._fork_model_template, settings.startup_timeout)

    # -- workers --

    def is_pending(self, load: wire.Load) -> bool:
        """Whether a template is about to come that shares what a worker, forked now, would import or load by itself."""
        return self._templates is not None and not _loads_anew(load) and self._templates.is_pending(load)

    def spawn(self, slot: Slot, packages: Path, refusal: worker.Refusal | None) -> tuple[int, socket.socket]:
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
            spec = WorkerSpec(slot.load, slot.connection, slot.page, theirs, writes, str(packages), refusal)
            pid = self._spawn_from_template(spec, ours) or self._fork_worker(spec, (*reads, ours.fileno()))
            self._supervisor.tell({"event": "worker", "model": slot.model_name, "pid": pid}, reads)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
        return pid, ours

    def _spawn_from_template(self, spec: WorkerSpec, ours: socket.socket) -> int | None:
        if self._templates is None or spec.refusal is not None or _loads_anew(spec.load):
            return None
        pid = self._templates.spawn(*to_order(spec))
        if pid is not None:
            ours.send(GO)
        return pid

    def _fork_worker(self, spec: WorkerSpec, foreign: tuple[int, ...]) -> int:
        kept, zygote = spec.connection.sock.fileno(), os.getpid()
        pid = _fork()
        if pid == 0:
            worker_main(spec, self._defaults, zygote, lambda: self._close_inherited(foreign, kept))
        return pid

    # -- templates --

    def holders(self) -> Sequence[int]:
        """The processes, other than workers, that run a model's code."""
        return self._templates.holders() if self._templates is not None else ()

    def note_imports(self, modules: Sequence[str]) -> None:
        """Take in what a worker's load had to import of the image's packages."""
        if self._templates is not None:
            self._templates.note_imports(modules)

    def child_ended(self, pid: int) -> None:
        """Take in that a child of the zygote has ended."""
        if self._templates is not None:
            self._templates.child_ended(pid)

    def _fork_import_template(self, control: socket.socket, ours: socket.socket, modules: Sequence[str]) -> int:
        defaults, zygote = self._defaults, os.getpid()
        pid = _fork()
        if pid == 0:
            ours.close()
            self._close_inherited()
            become_import_template(
                control,
                modules,
                zygote,
                lambda order, files: worker_main(of_order(order, files, defaults), defaults, zygote),
            )
        return pid

    def _fork_model_template(self, control: socket.socket, load: wire.Load) -> int:
        zygote = os.getpid()
        with ExitStack() as stack:
            reads, writes = _outputs(stack)
            pid = _fork()
            if pid == 0:
                self._close_inherited(reads)
                become_model_template(control, load, writes, self._defaults, zygote)
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
