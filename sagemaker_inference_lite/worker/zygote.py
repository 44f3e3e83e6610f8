# SPDX-License-Identifier: Apache-2.0
"""The zygote: imports the handler and its libraries once, then forks a worker for each connection of the front end's.

It never serves and never runs a handler's code beyond imports, so it has one thread and its memory is shared by
all workers. What models import beyond the handler is imported by its heir (heir.py). It keeps a second copy of each
worker's connection. The protocol strictly alternates, so when a worker dies or overruns its limit the zygote can
answer in its place and fork a successor on the same connection: the front end does not notice.

All connections come to one socket, and each says with its LOAD which model it is for. Its end means that the front end
has unloaded the model, or needs one worker less.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import itertools
import json
import logging
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Callable

from sagemaker_inference_lite import log_lines
from sagemaker_inference_lite.error_body import error_body
from sagemaker_inference_lite.errors import HandlerError, WireError
from sagemaker_inference_lite.exit_status import signal_name
from sagemaker_inference_lite.mms import wire
from sagemaker_inference_lite.process_group import kill_group
from sagemaker_inference_lite.requirements import overlay
from sagemaker_inference_lite.settings import Settings
from sagemaker_inference_lite.worker import answers, slot_page, worker
from sagemaker_inference_lite.worker.answers import AnswerOptions
from sagemaker_inference_lite.worker.birth import GO, Birth, Inheritance, live, of_order, to_order
from sagemaker_inference_lite.worker.connection import Connection
from sagemaker_inference_lite.worker.event_loop import EventLoop
from sagemaker_inference_lite.worker.heir import adopt_orphans, become_candidate
from sagemaker_inference_lite.worker.imports import image_directories
from sagemaker_inference_lite.worker.keeper import become_keeper
from sagemaker_inference_lite.worker.loader import import_handler
from sagemaker_inference_lite.worker.models import Model, Slot
from sagemaker_inference_lite.worker.shared_model import SharedModel
from sagemaker_inference_lite.worker.slot_page import Pages
from sagemaker_inference_lite.worker.succession import Succession

# Run as a program, this module is called __main__.
logger = logging.getLogger("sagemaker_inference_lite.worker.zygote")

# Where the front end connects (FrontEnd.java).
SOCKET_NAME = "workers.sock"
READY_NAME = "ready"

# How often requests are held against their limit. A limit is kept to within this.
TICK_SECONDS = 0.25

# How often a single model that could not be loaded is tried before the server gives up, and the pause between.
SINGLE_MODEL_TRIES = 3
RETRY_SECONDS = 1.0

_GRACE_SECONDS = 2.0
_STOP_SECONDS = 1.0

# The longest that an heir may import.
_IMPORT_SECONDS = 60

# How often a fork looks whether the heir has come that it waits for.
_EXPECTING_SECONDS = 0.01

# Workers of all models together; a process each.
_MAX_SLOTS = 16_384

# An event must reach the supervisor in one piece.
_LONGEST_MESSAGE = 10_000


class Zygote:
    """Models come and go, workers are forked and end. One thread, because a fork takes only that which calls it."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        supervisor: socket.socket,
        options: AnswerOptions,
        max_request_bytes: int,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._supervisor = supervisor
        self._loop = EventLoop()
        # Those that have a connection which is not given up. MMS has no two models of one name.
        self._models: dict[str, Model] = {}
        self._model_numbers = itertools.count()
        self._workers: dict[int, Slot] = {}
        self._pages = Pages(_MAX_SLOTS)
        self._nurse: Succession | SharedModel | None = None
        self._stopping = False
        self._inheritance: Inheritance | None = None
        self._options = options
        self._max_message = max_request_bytes + wire.HEADROOM_BYTES

    # -- start --

    def prepare(self, handler: str, directories: list[Path]) -> None:
        """Import what workers will need; raises HandlerError where that fails."""
        for module in self._settings.model_server_preload:
            self._tell({"event": "importing", "what": f"{module!r} (SAGEMAKER_MODEL_SERVER_PRELOAD)"})
            _preload(module)
        self._tell({"event": "importing", "what": "the handler"})
        # What a model's own directories bring is never imported ahead for others.
        of_image = image_directories(sys.path)
        entry_point = import_handler(handler, directories)
        self._inheritance = Inheritance(
            self._settings, handler, entry_point, of_image, self._options, self._pages, self._max_message
        )
        # Objects that the collector never visits again are pages that no worker has to copy.
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        """Serve the front end until the supervisor closes its socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._directory / SOCKET_NAME))
        listener.listen(socket.SOMAXCONN)
        listener.setblocking(False)
        self._loop.watch(listener, lambda: self._accept_worker(listener))
        self._loop.watch(self._supervisor, self._supervisor_gone)
        self._loop.wake_for_children()
        self._nurse = self._find_nurse()
        self._tell({"event": "ready"})
        while not self._stopping:
            self._turn()
        self._end_workers()

    def _find_nurse(self) -> Succession | SharedModel | None:
        """Whoever forks workers that share what others have imported, or loaded."""
        settings = self._settings
        wanted = settings.model_server_share_imports if settings.multi_model else settings.model_server_share_model
        if not wanted or not adopt_orphans():
            return None
        if settings.multi_model:
            return Succession(self._loop, self._fork_candidate, min(settings.startup_timeout, _IMPORT_SECONDS))
        return SharedModel(self._loop, self._fork_keeper, settings.startup_timeout)

    def _turn(self) -> None:
        self._loop.turn(TICK_SECONDS if self._workers else None)
        self._reap()
        self._check_limits()

    # -- the supervisor --

    def _tell(self, event: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        with suppress(OSError):  # its end is seen where it is read from
            socket.send_fds(self._supervisor, [json.dumps(event).encode()], list(descriptors))

    def tell_failure(self, message: str) -> None:
        """Tell the supervisor why this process ends."""
        self._tell({"event": "handler failed", "message": message[:_LONGEST_MESSAGE]})

    def _supervisor_gone(self) -> None:
        with suppress(OSError):
            self._supervisor.recv(1)
        self._loop.unwatch(self._supervisor)
        self._stopping = True  # it never says anything: it has ended

    # -- models --

    def _packages_of(self, model: Model) -> Path:
        """Where packages of the model's own are installed."""
        return self._directory / "packages" / str(model.number)

    def _remove_packages(self, model: Model) -> None:
        """Remove the packages of a model that is gone, once no worker of its can import any."""
        directory = self._packages_of(model)
        is_used = model.slots or any(slot.model is model for slot in self._workers.values())
        if directory.exists() and not is_used:
            # Thousands of files take a second: in a process of its own, which ends with this one's group at the latest.
            argv = overlay.removal(directory)
            with suppress(OSError):  # it is removed with everything else, then
                os.posix_spawn(argv[0], argv, os.environ)

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
        self._loop.watch(sock, lambda: self._read_load(slot))

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
        slot.load, slot.model = load, model
        model.slots.append(slot)
        sock = slot.connection.sock
        self._loop.unwatch(sock)
        self._loop.watch_for_hangup(sock, lambda: self._close(slot))
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
        elif slot.page.state() in (slot_page.ANSWERING, slot_page.IDLE, slot_page.CLOSED):
            # Its handler is not at work: the end of the stream lets it end in an orderly way.
            with suppress(OSError):
                slot.connection.sock.shutdown(socket.SHUT_RDWR)
            self._loop.later(_GRACE_SECONDS, functools.partial(self._kill, slot, slot.pid))
        else:
            self._kill(slot, slot.pid)
        self._note_ready()

    def _leave_model(self, slot: Slot) -> None:
        if slot.model is not None:
            slot.model.slots.remove(slot)
            if not slot.model.slots:
                del self._models[slot.model.name]

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
            kill_group(pid)

    # -- workers --

    def _fork(self, slot: Slot, refusal: worker.Refusal | None = None) -> None:
        assert slot.load is not None
        if refusal is None and self._nurse is not None and self._nurse.is_expecting(slot.load):
            # It is about to share what this worker would import, or load, by itself.
            self._fork_later(slot, _EXPECTING_SECONDS)
            return
        try:
            self._fork_worker(slot, refusal)
        except OSError as error:
            self._cannot_fork(slot, error)

    def _cannot_fork(self, slot: Slot, error: OSError) -> None:
        """No process, no memory or no more open files: the contract's 507, "any other resource"."""
        logger.error("no worker can be made for model %s: %s", slot.model_name, error)
        if slot.answered_load:
            self._fork_later(slot, RETRY_SECONDS)
        else:
            self._could_not_load(slot, worker.Refusal(507, f"No worker can be made: {error}."))

    def _fork_worker(self, slot: Slot, refusal: worker.Refusal | None) -> None:
        slot.page.enter(slot_page.STARTING)
        slot.loaded = False
        slot.killed_because = None
        slot.load_deadline = float("inf") if refusal else time.monotonic() + self._settings.startup_timeout
        slot.last_word = b""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with ExitStack() as stack, theirs:
            out_read, out_write = _pipe(stack)
            err_read, err_write = _pipe(stack)
            assert slot.load is not None
            assert slot.model is not None
            birth = Birth(
                slot.load,
                slot.connection,
                slot.page,
                theirs,
                (out_write, err_write),
                self._packages_of(slot.model),
                refusal,
            )
            pid = self._bear(birth, ours) or self._fork_here(slot, birth, (out_read, err_read, ours.fileno()))
            self._tell({"event": "worker", "model": slot.model_name, "pid": pid}, (out_read, err_read))
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
        slot.pid = pid
        slot.events = ours
        self._workers[pid] = slot
        self._loop.watch(ours, lambda: self._hear(slot))

    def _bear(self, birth: Birth, ours: socket.socket) -> int | None:
        """Have the nurse fork the worker, if there is one; its pid."""
        if self._nurse is None or birth.refusal is not None:
            return None
        pid = self._nurse.bear(*to_order(birth))
        if pid is not None:
            ours.send(GO)
        return pid

    def _fork_here(self, slot: Slot, birth: Birth, foreign: tuple[int, ...]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            live(birth, self._inherited(), parent, lambda: self._close_inherited(slot, foreign))
        return pid

    def _fork_candidate(self, control: socket.socket, ours: socket.socket, modules: Sequence[str]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._close_inherited(None)
            inheritance = self._inherited()
            become_candidate(
                control,
                modules,
                zygote,
                lambda order, files: live(of_order(order, files, inheritance), inheritance, zygote),
            )
        return pid

    def _fork_keeper(self, control: socket.socket, load: wire.Load) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        zygote = os.getpid()
        with ExitStack() as stack:
            out_read, out_write = _pipe(stack)
            err_read, err_write = _pipe(stack)
            pid = os.fork()
            if pid == 0:
                self._close_inherited(None, (out_read, err_read))
                become_keeper(control, load, (out_write, err_write), self._inherited(), zygote)
            self._tell({"event": "worker", "model": load.model_name, "pid": pid}, (out_read, err_read))
        return pid

    def _inherited(self) -> Inheritance:
        assert self._inheritance is not None
        return self._inheritance

    def _close_inherited(self, own: Slot | None, foreign: tuple[int, ...] = ()) -> None:
        """Close the connections of others: one that is held here would not end where its owner ends it."""
        for descriptor in foreign:
            os.close(descriptor)
        self._loop.close_in_child(-1 if own is None else own.connection.sock.fileno())

    def _hear(self, slot: Slot) -> None:
        """Take in what the worker has said."""
        assert slot.events is not None
        with suppress(OSError):  # nothing more
            while said := slot.events.recv(worker.LONGEST_WORD):
                self._take_in(slot, said)
            self._loop.unwatch(slot.events)  # its end follows as SIGCHLD

    def _take_in(self, slot: Slot, said: bytes) -> None:
        if said.startswith(worker.LOADED):
            if not slot.closed:
                self._loaded(slot, int(said[len(worker.LOADED) :]))
        elif said.startswith(worker.IMPORTED):
            if self._nurse is not None:
                self._nurse.consider(said[len(worker.IMPORTED) :].decode().split())
        else:
            slot.last_word = said

    def _loaded(self, slot: Slot, milliseconds: int) -> None:
        logger.info("model %s loaded in %d ms (pid %d)", slot.model_name, milliseconds, slot.pid)
        slot.loaded = True
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
        """Single-model mode: /ping holds the model for loaded while this file is there."""
        if self._settings.multi_model:
            return
        path = self._directory / READY_NAME
        if any(slot.loaded for model in self._models.values() for slot in model.slots):
            path.touch()
        else:
            with suppress(FileNotFoundError):
                path.unlink()

    def _check_limits(self) -> None:
        now = time.monotonic()
        limit = self._settings.model_server_timeout
        for pid, slot in list(self._workers.items()):
            if slot.closed or slot.killed_because:
                continue
            if now > slot.load_deadline:
                seconds = self._settings.startup_timeout
                message = f"The model did not load within {seconds} seconds (SAGEMAKER_STARTUP_TIMEOUT)."
            elif slot.page.overran(limit):
                message = f"The model took longer than {limit} seconds for a request (SAGEMAKER_MODEL_SERVER_TIMEOUT)."
            else:
                continue
            slot.killed_because = worker.Refusal(504, message)
            kill_group(pid)

    # -- ends of workers --

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._nurse is not None:
                self._nurse.ended(pid)
            self._tell({"event": "worker ended", "pid": pid})
            slot = self._workers.pop(pid, None)
            if slot is not None:
                kill_group(pid)  # what the worker started and left behind
                self._worker_ended(slot, pid, os.waitstatus_to_exitcode(status))

    def _worker_ended(self, slot: Slot, pid: int, code: int) -> None:
        self._hear(slot)  # its end may be seen before its last words
        reading = slot.page.read()
        slot.pid = None
        slot.loaded = False
        slot.load_deadline = float("inf")
        if slot.events is not None:
            self._loop.drop(slot.events)
        if slot.closed:
            self._release(slot)
            return
        self._note_ready()
        if slot.last_word in (worker.CLOSED, worker.NO_MESSAGE):
            self._close(slot)
        elif slot.last_word == worker.REFUSED:
            self._fork(slot)
        elif reading.state == slot_page.STARTING:
            self._died_loading(slot, pid, code)
        else:
            self._died_serving(slot, pid, code, reading)

    def _died_serving(self, slot: Slot, pid: int, code: int, reading: slot_page.Reading) -> None:
        reason = slot.killed_because or _reason_of(code, "while it handled a request")
        is_owed = reading.state == slot_page.HANDLING and reading.request_ids
        error_id = uuid.uuid4().hex
        logger.error(
            "worker %d of model %s ended: %s%s",
            pid,
            slot.model_name,
            reason.message,
            f" (request {', '.join(reading.request_ids)}, error id {error_id})" if is_owed else "",
        )
        if is_owed:
            type_name = "TimeLimitExceeded" if slot.killed_because else "WorkerDied"
            body = error_body(type_name, reason.message, error_id=error_id)
            self._send(slot, answers.refusal(len(reading.request_ids), reason.status, body))
        elif reading.state != slot_page.IDLE:
            # Half of a request may have been read, or half of an answer sent: nobody else can go on from there.
            self._close(slot)
        if not slot.closed:
            self._fork(slot)

    def _died_loading(self, slot: Slot, pid: int, code: int) -> None:
        reason = slot.killed_because or _LOAD_REASONS.get(slot.last_word)
        if slot.killed_because or reason is None:
            reason = reason or _reason_of(code, "while it loaded the model")
            logger.error("worker %d of model %s ended: %s", pid, slot.model_name, reason.message)
        self._could_not_load(slot, reason)

    def _could_not_load(self, slot: Slot, reason: worker.Refusal) -> None:
        slot.failed_tries += 1
        if not self._settings.multi_model:
            self._try_again_or_give_up(slot, reason)
        elif slot.answered_load:
            self._fork(
                slot, worker.Refusal(reason.status, "The model could not be loaded again; its log has the cause.")
            )
        else:
            # The front end closes the connection, and forgets the model.
            status = 507 if reason.status == 507 else 500
            self._answer_load(slot, wire.encode_failure(status, reason.message))

    def _try_again_or_give_up(self, slot: Slot, reason: worker.Refusal) -> None:
        tries = slot.failed_tries
        if tries >= SINGLE_MODEL_TRIES:
            message = f"The model could not be loaded in {tries} tries. {reason.message}"
            self._tell({"event": "model failed", "message": message})
        else:
            self._fork_later(slot, RETRY_SECONDS)

    def _fork_later(self, slot: Slot, seconds: float) -> None:
        self._loop.later(seconds, lambda: None if slot.closed or self._stopping else self._fork(slot))

    # -- stop --

    def _end_workers(self) -> None:
        for slot in list(self._workers.values()):
            self._close(slot)
        deadline = time.monotonic() + _STOP_SECONDS
        while self._workers and time.monotonic() < deadline:
            self._loop.turn(0.02)
            self._reap()
        for pid in self._workers:
            kill_group(pid)
        while self._workers:
            pid, _ = os.waitpid(-1, 0)
            self._workers.pop(pid, None)


_LOAD_REASONS = {
    worker.LOAD_FAILED: worker.Refusal(500, "The log has the cause."),
    worker.LOAD_MEMORY: worker.Refusal(507, "The worker ran out of memory while it loaded the model."),
}


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


def _pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe, both ends of which are closed with the stack."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def _remove(directory: Path) -> None:
    """Remove a directory into which Java, which is about to notice that it is to end, may be writing still."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.01)


def _preload(module: str) -> None:
    try:
        importlib.import_module(module)
    except BaseException as error:
        raise HandlerError(
            f"SAGEMAKER_MODEL_SERVER_PRELOAD names {module!r}, which cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _end_with(supervisor: socket.socket, directory: Path) -> Callable[[], None]:
    """End this process when the supervisor is gone, though an import may be under way that takes its time, or hangs.

    Returns:
        To be called when the loop, which watches by itself, is about to run: the thread must be gone by the first fork.
    """
    receiver, sender = socket.socketpair()

    def watch() -> None:
        readable, _, _ = select.select([supervisor, receiver], [], [])
        if receiver not in readable:  # the supervisor never says anything: it has ended
            _remove(directory)
            os._exit(1)

    thread = threading.Thread(target=watch, name="supervisor-watch", daemon=True)
    thread.start()

    def stop_watching() -> None:
        sender.send(b".")
        thread.join()
        sender.close()
        receiver.close()

    return stop_watching


def main() -> int:
    """The process's entry point: reads the environment and the arguments that start_model_server() gives it."""
    parser = argparse.ArgumentParser(prog="zygote")
    parser.add_argument("--supervisor-fd", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--handler", required=True)
    parser.add_argument("--max-request-size", type=int, required=True)
    parser.add_argument("--max-response-size", type=int, required=True)
    parser.add_argument("--decode-input", action="store_true")
    parser.add_argument("--look-in", type=Path, action="append", default=[])
    parser.add_argument("--packages", type=Path)
    arguments = parser.parse_args()
    settings = Settings.from_environ(os.environ)
    log_lines.install()
    stream = logging.StreamHandler(sys.stdout)
    stream.setFormatter(log_lines.Formatter())
    logging.basicConfig(level=settings.container_log_level, handlers=[stream])
    supervisor = socket.socket(fileno=arguments.supervisor_fd)
    options = AnswerOptions(arguments.max_response_size, settings.expose_tracebacks, arguments.decode_input)
    zygote = Zygote(settings, arguments.directory, supervisor, options, arguments.max_request_size)
    stop_watching = _end_with(supervisor, arguments.directory)
    if arguments.packages is not None:
        overlay.activate(arguments.packages)
    try:
        zygote.prepare(arguments.handler, arguments.look_in)
    except HandlerError as error:
        logger.error("%s", error, exc_info=error.__cause__)
        zygote.tell_failure(str(error))
        return error.exit_code
    stop_watching()
    try:
        zygote.run()
    finally:
        # The supervisor removes it; where it was killed, nobody else is left to.
        _remove(arguments.directory)
    return 0


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the working directory, which "python -m" puts before the standard library
    sys.exit(main())
