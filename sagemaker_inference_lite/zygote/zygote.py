# SPDX-License-Identifier: Apache-2.0
"""The zygote: imports the handler and its libraries once, then forks a worker for each connection of the front end's.

It never serves and never runs a handler's code beyond imports, so it has one thread and its memory is shared by
all workers. What models import beyond the handler is imported by a fork of its own (import_template.py). It keeps a
second copy of each worker's connection. The protocol strictly alternates, so when a worker dies or overruns its limit
the zygote can answer in its place and fork a successor on the same connection: the front end does not notice.

All connections come to one socket, and each says with its LOAD which model it is for. Its end means that the front end
has unloaded the model, or needs one worker less.
"""

from __future__ import annotations

import functools
import glob
import itertools
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.handlers.error_response import error_body
from sagemaker_inference_lite.ipc import events, wire, worker_status
from sagemaker_inference_lite.ipc.connection import Connection
from sagemaker_inference_lite.ipc.events import End
from sagemaker_inference_lite.machine.sizing import MOST_WORKERS
from sagemaker_inference_lite.requirements import overlay
from sagemaker_inference_lite.runtime import processes
from sagemaker_inference_lite.runtime.printable import on_one_line
from sagemaker_inference_lite.runtime.processes import kill_group, kill_leader, signal_name
from sagemaker_inference_lite.worker import responses, worker
from sagemaker_inference_lite.worker.spec import WorkerDefaults, failure_marks
from sagemaker_inference_lite.zygote.before_fork import prepare_to_fork
from sagemaker_inference_lite.zygote.event_loop import Callback, EventLoop, guarded
from sagemaker_inference_lite.zygote.models import Model, Reload, Slot
from sagemaker_inference_lite.zygote.parent import Supervisor
from sagemaker_inference_lite.zygote.readiness import Readiness
from sagemaker_inference_lite.zygote.restarts import LEAST_SECONDS, MOST_ENDS
from sagemaker_inference_lite.zygote.spawner import Spawner

logger = logging.getLogger("sagemaker_inference_lite.zygote")

# Where the front end connects, and where it listens for whether the model is there (FrontEnd.java).
SOCKET_NAME = "workers.sock"
READINESS_NAME = "ready.sock"

# How often requests are held against their limit. A limit is kept to within this.
TICK_SECONDS = 0.25

# How often a single model that could not be loaded is tried before the server gives up, and the pause between.
SINGLE_MODEL_TRIES = 3
RETRY_SECONDS = 1.0

# How often the supervisor is told that this process is at work.
ALIVE_SECONDS = 2.0

_GRACE_SECONDS = 2.0
_STOP_SECONDS = 1.0

# How often a fork looks whether the import template has come that it waits for.
_PENDING_SECONDS = 0.01

# A worker tells each kind of event once; one more is the look that finds nothing.
_MOST_EVENTS = 7


class Zygote:
    """Models come and go, workers are forked and end. One thread, because a fork takes only that which calls it."""

    def __init__(self, directory: Path, supervisor: Supervisor, defaults: WorkerDefaults) -> None:
        self._settings = defaults.settings
        self._directory = directory
        self._supervisor = supervisor
        self._loop = EventLoop()
        # Those that have a connection which is not given up. MMS has no two models of one name.
        self._models: dict[str, Model] = {}
        self._model_numbers = itertools.count()
        self._workers: dict[int, Slot] = {}
        self._pages = defaults.pages
        self._max_message = defaults.max_message
        self._environ = defaults.environ
        self._readiness = None if self._settings.multi_model else Readiness(directory / READINESS_NAME, self._loop)
        self._spawner = Spawner(self._loop, defaults, supervisor)
        self._stopping = False

    # -- start --

    def run(self) -> None:
        """Serve the front end until the supervisor closes its socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._directory / SOCKET_NAME))
        listener.listen(MOST_WORKERS)  # socket.SOMAXCONN is 128 in some Pythons, and one load may connect more
        listener.setblocking(False)
        self._loop.watch(listener, lambda: self._accept_worker(listener))
        self._loop.watch(self._supervisor.sock, self._supervisor_gone)
        self._loop.wake_for_children()
        prepare_to_fork()
        self._supervisor.tell({"event": "ready"})
        self._send_alive()
        while not self._stopping:
            self._turn()
        self._end_workers()

    def _turn(self) -> None:
        self._loop.turn(TICK_SECONDS if self._workers else None)
        guarded(self._reap)
        guarded(self._check_limits)

    def _send_alive(self) -> None:
        self._supervisor.tell({"event": "alive"})
        self._loop.later(ALIVE_SECONDS, self._send_alive)

    def _supervisor_gone(self) -> None:
        self._loop.unwatch(self._supervisor.sock)
        self._stopping = True

    # -- models --

    def _packages_of(self, model: Model) -> Path:
        """Where packages of the model's own are installed."""
        return self._directory / "packages" / str(model.number)

    def _remove_packages(self, model: Model) -> None:
        """Remove the packages of a model that is gone, once no worker of its can import any."""
        directory = self._packages_of(model)
        for mark in glob.glob(failure_marks(glob.escape(str(directory)))):
            with suppress(OSError):
                os.unlink(mark)
        is_used = model.slots or any(slot.model is model for slot in self._workers.values())
        if directory.exists() and not is_used:
            # Thousands of files take a second: in a process of its own, which ends with this one's group at the latest.
            argv = overlay.removal(directory)
            with suppress(OSError):  # it is removed with everything else, then
                os.posix_spawn(argv[0], argv, self._environ)

    def _accept(self, listener: socket.socket) -> socket.socket | None:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:
            # No more files may be opened, most likely. Whoever waits to be accepted goes on waiting.
            logger.error("a connection cannot be accepted: %s", error)
            time.sleep(TICK_SECONDS)
            return None

    # -- slots --

    def _of(self, slot: Slot, callback: Callback) -> Callback:
        """The callback, where a failure of it is the trouble of this slot alone: its connection is given up."""

        def call() -> None:
            try:
                callback()
            except Exception:
                logger.exception("a connection of model %s is given up", slot.model_name)
                self._close(slot)

        return call

    def _accept_worker(self, listener: socket.socket) -> None:
        sock = self._accept(listener)
        if sock is None:
            return
        sock.setblocking(False)
        try:
            page = self._pages.take()
        except OSError as error:
            logger.error("a connection of the front end is given up: %s", error)
            sock.close()
            return
        slot = Slot(Connection(sock, self._max_message), page)
        self._loop.watch(sock, self._of(slot, lambda: self._read_load(slot)))

    def _read_load(self, slot: Slot) -> None:
        try:
            message = slot.connection.receive_available()
            if isinstance(message, list):
                raise WireError("requests before LOAD")
        except BlockingIOError:
            return
        except (WireError, OSError) as error:
            logger.error("a connection of the front end is given up before its LOAD: %s", error)
            self._close(slot)
            return
        if message is not None:
            self._begin_load(slot, message)

    def _begin_load(self, slot: Slot, load: wire.Load) -> None:
        model = self._models.get(load.model_name)
        if model is None:
            model = self._models[load.model_name] = Model(load.model_name, next(self._model_numbers))
            logger.info("model %r: loading from %s", load.model_name, on_one_line(load.model_path))
        slot.load, slot.model = load, model
        if load.generation > model.reload.generation:
            model.reload = Reload(load.generation, load.generation_size)
            logger.info("model %r: reloading from %s", load.model_name, on_one_line(load.model_path))
        model.slots.append(slot)
        sock = slot.connection.sock
        self._loop.unwatch(sock)
        self._loop.watch_for_hangup(sock, self._of(slot, lambda: self._close(slot)))
        sock.setblocking(True)
        slot.connection.allow(self._max_message * load.batch_size)
        self._fork(slot)

    def _close(self, slot: Slot) -> None:
        """Give the connection up. The front end sees it end as soon as the worker has ended too."""
        if slot.closed:
            return
        slot.closed = True
        self._leave_model(slot)
        self._loop.unwatch(slot.connection.sock)
        if slot.pid is None:
            self._release(slot)
        elif slot.page.state() in (worker_status.ANSWERING, worker_status.IDLE, worker_status.CLOSED):
            # Its handler is not at work: the end of the stream lets it end in an orderly way.
            with suppress(OSError):
                slot.connection.sock.shutdown(socket.SHUT_RDWR)
            self._loop.later(_GRACE_SECONDS, self._of(slot, functools.partial(self._kill, slot, slot.pid)))
        else:
            self._kill(slot, slot.pid)
        self._note_ready()

    def _leave_model(self, slot: Slot) -> None:
        if slot.model is not None:
            slot.model.slots.remove(slot)
            if not slot.model.slots:
                del self._models[slot.model.name]
                if slot.model.has_loaded and self._settings.multi_model and not self._stopping:
                    logger.info("model %r unloaded", slot.model.name)

    def _release(self, slot: Slot) -> None:
        sock = slot.connection.sock
        # A worker that was forked in between may hold a copy, and the front end must see the end all the same.
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        self._loop.drop(sock)
        self._pages.give_back(slot.page)
        if slot.model is not None:
            self._remove_packages(slot.model)

    def _kill(self, slot: Slot, pid: int | None) -> None:
        if pid is not None and self._workers.get(pid) is slot:
            kill_leader(pid)

    # -- workers --

    def _fork(self, slot: Slot, refusal: worker.Refusal | None = None) -> None:
        assert slot.load is not None
        try:
            if refusal is None and self._spawner.is_pending(slot.load):
                self._fork_later(slot, _PENDING_SECONDS)
            else:
                self._fork_worker(slot, refusal)
        except OSError as error:
            self._cannot_fork(slot, error, refusal)

    def _cannot_fork(self, slot: Slot, error: OSError, refusal: worker.Refusal | None) -> None:
        """No process, no memory or no more open files: the contract's 507, "any other resource"."""
        failure = _load_failure(f"No worker can be made: {error}.")
        logger.error("no worker can be made for model %s, error id %s: %s", slot.model_name, failure.error_id, error)
        if slot.answered_load:
            self._fork_later(slot, RETRY_SECONDS, refusal)
        else:
            self._could_not_load(slot, 507, failure)

    def _fork_worker(self, slot: Slot, refusal: worker.Refusal | None) -> None:
        slot.page.begin_anew()
        slot.forked_at = time.monotonic()
        slot.loaded = False
        slot.told = set()
        slot.is_refusing = refusal is not None
        slot.killed_because = None
        slot.load_deadline = float("inf") if refusal else time.monotonic() + self._settings.startup_timeout
        slot.end = None
        slot.failure = slot.description = None
        slot.report = ""
        assert slot.model is not None
        slot.pid, slot.events = self._spawner.spawn(slot, self._packages_of(slot.model), refusal)
        self._workers[slot.pid] = slot
        self._loop.watch(slot.events, self._of(slot, lambda: self._read_events(slot)))

    def _read_events(self, slot: Slot) -> None:
        """Take in what the worker has said, or what its model has said in its place."""
        assert slot.events is not None
        try:
            for _ in range(_MOST_EVENTS):
                packet, _, flags, _ = slot.events.recvmsg(events.LONGEST_EVENT)
                if not packet:
                    self._loop.unwatch(slot.events)  # its end follows as SIGCHLD
                    return
                if flags & socket.MSG_TRUNC:
                    raise WireError(f"an event of more than {len(packet)} bytes")
                self._on_event(slot, events.parse(packet))
            raise WireError(f"more than {_MOST_EVENTS} events")
        except WireError as error:
            self._distrust(slot, error)
        except OSError:
            pass  # nothing more

    def _on_event(self, slot: Slot, event: events.Event) -> None:
        is_late = slot.loaded and not isinstance(event, End)
        if type(event) in slot.told or is_late or (event is End.REFUSED and not slot.is_refusing):
            raise WireError(f"{event!r} a second time, or out of its turn")
        slot.told.add(type(event))
        if isinstance(event, End):
            slot.end = event
        elif isinstance(event, events.LoadFailure):
            slot.failure = event
        elif isinstance(event, events.Imported):
            self._spawner.note_imports(event.modules)
        elif isinstance(event, events.Report):
            slot.report = on_one_line(event.text)
        elif isinstance(event, events.Description):
            slot.description = event
        elif not slot.closed:
            self._loaded(slot, event.milliseconds)

    def _distrust(self, slot: Slot, error: WireError) -> None:
        """End a worker whose model meddles with what the worker tells the zygote. What it says no more counts."""
        assert slot.events is not None
        self._loop.unwatch(slot.events)
        logger.error(
            "worker %d of model %s is ended: it says what no worker does: %s", slot.pid, slot.model_name, error
        )
        slot.end = None
        slot.killed_because = worker.Refusal(500, "The worker was ended: its model wrote to what the worker alone may.")
        self._kill(slot, slot.pid)

    def _loaded(self, slot: Slot, milliseconds: int) -> None:
        report = f": {slot.report}" if slot.report else ""
        seconds = milliseconds / 1000
        logger.info("model %r loaded in %.2f s (pid %d)%s", slot.model_name, seconds, slot.pid, report)
        slot.loaded = True
        assert slot.model is not None
        if not slot.model.has_loaded:
            slot.model.has_loaded = True
            self._supervisor.tell_load(slot.model_name, milliseconds, slot.description)
        if slot.is_of_reload and slot.model.reload.loaded():
            elapsed = time.monotonic() - slot.model.reload.begun
            logger.info("model %r reloaded in %.2f s", slot.model_name, elapsed)
            self._supervisor.tell_reload(slot.model_name, elapsed)
        slot.load_deadline = float("inf")
        slot.failed_tries = 0
        self._note_ready()
        if not slot.answered_load:
            self._answer_load(slot, wire.encode_loaded(slot.pid or 0))

    def _answer_load(self, slot: Slot, frame: bytes) -> None:
        slot.answered_load = True
        self._send(slot, [frame])

    def _send(self, slot: Slot, frame: Sequence[wire.Buffer]) -> None:
        """Send a small frame. The front end waits for it, so there is room for it in the socket."""
        try:
            slot.connection.send(frame)
        except OSError as error:
            logger.warning("the front end is gone from a connection of model %s: %s", slot.model_name, error)
            self._close(slot)

    def _note_ready(self) -> None:
        """Single-model mode: /ping is 200 while some worker has the model loaded."""
        if self._readiness is not None:
            self._readiness.tell(any(slot.loaded for model in self._models.values() for slot in model.slots))

    def _check_limits(self) -> None:
        now = time.monotonic()
        limit = self._settings.model_server_timeout
        for pid, slot in list(self._workers.items()):
            if slot.closed or slot.killed_because:
                continue
            if now > slot.load_deadline:
                seconds = self._settings.startup_timeout
                message = f"It did not load within {seconds} seconds (SAGEMAKER_STARTUP_TIMEOUT)."
            elif slot.page.overran(limit):
                message = f"The model took longer than {limit} seconds for a request (SAGEMAKER_MODEL_SERVER_TIMEOUT)."
            else:
                continue
            slot.killed_because = worker.Refusal(504, message)
            kill_leader(pid)

    # -- ends of workers --

    def _reap(self) -> None:
        has_reaped = False
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                has_reaped = True
                guarded(functools.partial(self._child_ended, pid, os.waitstatus_to_exitcode(status)))
        if has_reaped:
            processes.kill_orphans(self._workers, {*self._workers, *self._spawner.holders()})

    def _child_ended(self, pid: int, code: int) -> None:
        slot = self._workers.pop(pid, None)
        self._supervisor.tell({"event": "worker ended", "pid": pid})
        if slot is not None:
            kill_group(pid)  # what the worker started and left behind
            self._of(slot, functools.partial(self._worker_ended, slot, pid, code))()
        self._spawner.child_ended(pid)

    def _worker_ended(self, slot: Slot, pid: int, code: int) -> None:
        if slot.killed_because is None:
            self._read_events(slot)  # its end may be seen before its last event
        slot.pid = None
        slot.loaded = False
        slot.load_deadline = float("inf")
        if slot.events is not None:
            self._loop.drop(slot.events)
            slot.events = None
        if slot.closed:
            self._release(slot)
            return
        self._note_ready()
        try:
            reading = slot.page.read()
        except WireError as error:
            logger.error("worker %d of model %s ended, and left %s", pid, slot.model_name, error)
            self._close(slot)
            return
        if slot.end in (End.CLOSED, End.NO_MESSAGE):
            self._close(slot)
        elif slot.end is End.REFUSED:
            self._load_or_refuse(slot)
        elif reading.state == worker_status.STARTING or not slot.answered_load:
            self._died_loading(slot, pid, code)
        else:
            self._died_serving(slot, pid, code, reading)

    def _died_serving(self, slot: Slot, pid: int, code: int, reading: worker_status.Reading) -> None:
        reason = slot.killed_because or _reason_of(code, _WHEN[reading.state])
        is_owed = reading.state == worker_status.HANDLING and reading.request_ids
        error_id = uuid.uuid4().hex
        logger.error(
            "worker %d of model %s ended: %s%s",
            pid,
            slot.model_name,
            reason.message,
            f" (request {', '.join(reading.request_ids)}, error id {error_id})" if is_owed else "",
        )
        if is_owed:
            type_name = "TimeLimitExceeded" if reason.status == 504 else "WorkerDied"
            body = error_body(type_name, reason.message, error_id=error_id)
            self._send(slot, responses.refusal(len(reading.request_ids), reason.status, body))
        elif reading.state != worker_status.IDLE:
            # Half of a request may have been read, or half of an answer sent: nobody else can go on from there.
            self._close(slot)
        if slot.closed:
            return
        if is_owed:
            self._fork(slot)
        else:
            slot.restarts.ended(reading.started > slot.forked_at, time.monotonic() - slot.forked_at)
            self._replace_unasked(slot, reason)

    def _replace_unasked(self, slot: Slot, reason: worker.Refusal) -> None:
        """Replace a worker that has ended by itself: soon the first time, and later and later from then on."""
        ends, pause = slot.restarts.ends, slot.restarts.pause_seconds
        message = f"The model's worker has ended {ends} times in a row before it was asked anything. {reason.message}"
        if self._settings.multi_model and pause > LEAST_SECONDS:
            self._refuse_for_now(slot, worker.Refusal(507 if reason.status == 507 else 503, message))
        elif not self._settings.multi_model and ends >= MOST_ENDS:
            self._supervisor.tell_model_failure(message)
        else:
            self._fork_later(slot, pause)

    def _refuse_for_now(self, slot: Slot, refusal: worker.Refusal) -> None:
        """Have requests refused, and the model loaded again at the first one that comes once the pause is over."""
        pause = slot.restarts.pause_seconds
        logger.warning("model %s is not loaded again before %d seconds have passed", slot.model_name, pause)
        slot.refusal, slot.no_load_before = refusal, time.monotonic() + pause
        self._fork(slot, refusal)

    def _load_or_refuse(self, slot: Slot) -> None:
        self._fork(slot, slot.refusal if time.monotonic() < slot.no_load_before else None)

    def _died_loading(self, slot: Slot, pid: int, code: int) -> None:
        status = _LOAD_STATUS.get(slot.end) if slot.end else None
        if status is not None and slot.failure is not None and not slot.killed_because:
            self._could_not_load(slot, status, slot.failure)  # the worker has logged it
            return
        reason = slot.killed_because or _reason_of(code, _WHEN[worker_status.STARTING])
        failure = _load_failure(reason.message)
        name, error_id = slot.model_name, failure.error_id
        logger.error("worker %d of model %s ended, error id %s: %s", pid, name, error_id, reason.message)
        self._could_not_load(slot, reason.status, failure)

    def _could_not_load(self, slot: Slot, status: int, failure: events.LoadFailure) -> None:
        """Say it where the front end waits for it, and try again where it does not."""
        slot.failed_tries += 1
        if slot.load is not None and slot.load.generation and not slot.answered_load:
            self._could_not_reload(slot, status, failure)
            return
        self._supervisor.tell_failed_load(slot.model_name, failure.sentence)
        if not self._settings.multi_model:
            self._try_again_or_give_up(slot, failure)
        elif slot.answered_load:
            slot.restarts.ended(has_answered=False, lived_seconds=0.0)
            # Who asks is not who loads: the sentence may quote what is private.
            cause = f"its log has the cause under the error id {failure.error_id}"
            message = f"The model could not be loaded again; {cause}."
            self._refuse_for_now(slot, worker.Refusal(status, message))
        else:
            # The front end closes the connection, and forgets the model.
            status = 507 if status == 507 else 500
            self._answer_load(slot, wire.encode_failure(status, failure.sentence, failure.error_id, failure.trace))

    def _could_not_reload(self, slot: Slot, status: int, failure: events.LoadFailure) -> None:
        """The front end drops what else the reload has brought, and goes on with the workers of before."""
        assert slot.model is not None
        # A worker of a reload that has failed already may be told of later than the next reload has begun.
        if slot.is_of_reload and slot.model.reload.failed():
            logger.error("model %r is not reloaded, and the workers of before go on", slot.model_name)
            self._supervisor.tell_failed_reload(slot.model_name, failure.sentence)
        self._answer_load(slot, wire.encode_failure(status, failure.sentence, failure.error_id, failure.trace))

    def _try_again_or_give_up(self, slot: Slot, failure: events.LoadFailure) -> None:
        tries = slot.failed_tries
        if failure.is_final or tries >= SINGLE_MODEL_TRIES:
            counted = f" in {tries} tries" if tries > 1 else ""
            self._supervisor.tell_model_failure(f"The model could not be loaded{counted}: {failure.sentence}")
        else:
            self._fork_later(slot, RETRY_SECONDS)

    def _fork_later(self, slot: Slot, seconds: float, refusal: worker.Refusal | None = None) -> None:
        def fork() -> None:
            if not slot.closed and not self._stopping:
                self._fork(slot, refusal)

        self._loop.later(seconds, self._of(slot, fork))

    # -- stop --

    def _end_workers(self) -> None:
        for slot in list(self._workers.values()):
            self._close(slot)
        deadline = time.monotonic() + _STOP_SECONDS
        while self._workers and time.monotonic() < deadline:
            self._loop.turn(0.02)
            self._reap()
        for pid in self._workers:
            kill_leader(pid)
        while self._workers:
            pid, _ = os.waitpid(-1, 0)
            self._workers.pop(pid, None)
        processes.end_orphans()


# What a worker did when it ended.
_WHEN = {
    worker_status.STARTING: "while it loaded the model",
    worker_status.IDLE: "while it waited for a request",
    worker_status.READING: "while it read a request",
    worker_status.HANDLING: "while it handled a request",
    worker_status.ANSWERING: "while it sent an answer",
    worker_status.CLOSED: "after the front end had closed its connection",
}

# The status of a load that failed in the worker, by how the worker ended.
_LOAD_STATUS = {End.LOAD_FAILED: 500, End.LOAD_MEMORY: 507}


def _load_failure(sentence: str) -> events.LoadFailure:
    """A failure that no worker has told, under an id of its own."""
    return events.LoadFailure(uuid.uuid4().hex, sentence)


def _reason_of(code: int, when: str) -> worker.Refusal:
    """The status that a worker's end means for its caller, and a sentence about it."""
    if code == -signal.SIGKILL:
        # Nobody here sent it: then it was the kernel, and the kernel does it for want of memory.
        return worker.Refusal(
            507, f"The worker was killed (SIGKILL) {when}: most likely the container ran out of memory."
        )
    if code < 0:
        return worker.Refusal(500, f"The worker was ended by {signal_name(-code)} {when}.")
    return worker.Refusal(500, f"The worker exited with status {code} {when}.")
