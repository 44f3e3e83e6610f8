# SPDX-License-Identifier: Apache-2.0
"""A real server for a test: Java, zygote and workers, on a free port of loopback, in a directory of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Protocol, TypeVar

import psutil
import requests

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
HANDLER = f"{PROGRAMS / 'commanded_handler.py'}:handle"


def free_port() -> int:
    """A port that nobody listens on, below 32767, which MMS refuses and where those of outgoing connections begin."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What the condition gives as soon as it is true; fails when it has not become so in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{condition} did not become true in {seconds} seconds")


def leads_a_group(process: psutil.Process) -> bool:
    """Whether a process leads a process group, as a worker does; a template does not, nor what has ended."""
    try:
        return os.getpgid(process.pid) == process.pid
    except ProcessLookupError:
        return False


_Endpoint = TypeVar("_Endpoint", bound="Endpoint")


class HasFileno(Protocol):
    """What a server can print to."""

    def fileno(self) -> int:
        """Its file descriptor."""


class Endpoint:
    """A server that is asked, wherever it runs.

    Args:
        url: Where it listens.
        base_dir: Its base directory, as this process sees it.
        seen_at: The same, as the server sees it.
    """

    def __init__(self, url: str, base_dir: Path, seen_at: Path) -> None:
        self.url = url
        self.base_dir = base_dir
        self.seen_at = seen_at

    def output(self) -> str:
        """All that it has printed so far."""
        raise NotImplementedError

    def end(self) -> int | None:
        """Its exit status; None while it runs."""
        raise NotImplementedError

    def ready(self: _Endpoint, seconds: float = 60.0) -> _Endpoint:
        """Wait until /ping is 200; fail with the output where the server ends instead."""
        deadline = time.monotonic() + seconds
        while self.ping() != 200:
            if self.end() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not ready, status {self.end()}:\n{self.output()}")
            time.sleep(0.02)
        return self

    def ping(self) -> int | None:
        """The status of /ping; None where nobody answers."""
        try:
            return requests.get(self.url + "/ping", timeout=5).status_code
        except requests.ConnectionError:
            return None

    def invoke(self, command: Any = "echo", model: str | None = None, **keywords: Any) -> requests.Response:
        """Send a command to the handler."""
        path = f"/models/{model}/invoke" if model else "/invocations"
        headers = {"Content-Type": "application/octet-stream", **keywords.pop("headers", {})}
        return requests.post(self.url + path, data=command, headers=headers, **{"timeout": 60, **keywords})

    def load(self, name: str, on_load: str = "", **more: Any) -> requests.Response:
        """Make a model directory as the platform does, and load it."""
        directory = self.base_dir / "models" / name / "model"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "on_load").write_text(on_load or "echo")
        url = str(self.seen_at / directory.relative_to(self.base_dir))
        return requests.post(self.url + "/models", json={"model_name": name, "url": url, **more}, timeout=120)

    def unload(self, name: str) -> requests.Response:
        """DELETE a model."""
        return requests.delete(self.url + f"/models/{name}", timeout=60)

    def listed(self) -> list[str]:
        """The names in GET /models."""
        models = requests.get(self.url + "/models", timeout=20).json()["models"]
        return [model["modelName"] for model in models]

    def described(self, name: str) -> dict[str, Any]:
        """GET /models/NAME."""
        answer: dict[str, Any] = requests.get(f"{self.url}/models/{name}", timeout=20).json()
        return answer


class Server(Endpoint):
    """One run of tests/programs/serve.py.

    Args:
        base_dir: SAGEMAKER_BASE_DIR; also where its output goes.
        output: Where its output goes instead.
        closed: What a shell says to close descriptors, such as ">&-".
    """

    def __init__(
        self,
        base_dir: Path,
        handler: str | None = HANDLER,
        output: HasFileno | None = None,
        closed: str = "",
        /,
        **environ: str,
    ) -> None:
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}", base_dir, base_dir)
        # Not under base_dir, whose path is too long for the sockets that are made there.
        self.temporary = Path(tempfile.mkdtemp(prefix="test-"))
        self.log = base_dir / f"server-{uuid.uuid4().hex[:6]}.log"
        settings = {
            "SAGEMAKER_BASE_DIR": str(base_dir),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "MMS_INFERENCE_ADDRESS": self.url,
            "TMPDIR": str(self.temporary),
            **environ,
        }
        if settings.get("SAGEMAKER_MULTI_MODEL") == "true":
            settings["MMS_MANAGEMENT_ADDRESS"] = self.url
        argv = [sys.executable, str(PROGRAMS / "serve.py"), *([handler] if handler else [])]
        argv = ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', *argv] if closed else argv
        environ = {**os.environ, **settings}
        with self.log.open("wb") as log:
            where = (output or log).fileno()
            self.process = subprocess.Popen(
                argv, env=environ, stdout=where, stderr=where, cwd=base_dir, start_new_session=True
            )

    def output(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text(errors="replace")

    def end(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    def ended(self, seconds: float = 40.0) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(seconds)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What it has started, by role: zygote, import template, worker, java."""
        roles: dict[str, list[psutil.Process]] = {"zygote": [], "template": [], "worker": [], "java": []}
        for child in psutil.Process(self.process.pid).children():
            roles["java" if child.name() == "java" else "zygote"].append(child)
        for zygote in roles["zygote"]:
            for child in zygote.children():
                roles["worker" if leads_a_group(child) else "template"].append(child)
        return roles

    def only_worker(self, model: str) -> psutil.Process:
        """The worker of the one model that is loaded, once those of models that were unloaded have ended."""
        worker = psutil.Process(int(self.invoke("pid", model).text))
        eventually(lambda: self.processes()["worker"] == [worker])
        return worker

    def descendants(self) -> list[psutil.Process]:
        """All processes under it, to ask later whether they have ended."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        """Stop it as the platform does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """End it whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)


@contextmanager
def serving(base_dir: Path, handler: str | None = HANDLER, **environ: str) -> Iterator[Server]:
    """A server that is ready, and that must stop cleanly at the end."""
    server = Server(base_dir, handler, **environ)
    try:
        yield server.ready()
        assert server.stop() == 0, server.output()
        assert list(server.temporary.iterdir()) == []
    finally:
        server.kill()


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether every one of these has ended."""
    return not any(map(_runs, processes))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # in between
        return False
