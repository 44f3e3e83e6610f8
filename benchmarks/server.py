# SPDX-License-Identifier: Apache-2.0
"""A peer's server as a group of processes: started, observed and ended for certain."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

STOP_SECONDS = 20
# What some peers' processes need to notice by themselves that their parent has gone.
_ORPHAN_SECONDS = 1.0
# What the kernel may need to end a process that uses much memory.
_KILL_SECONDS = 10.0


class ServerError(Exception):
    """A server did not do what is measured; the message says what it did, with its last words."""


class ServerProcess:
    """A program that has been started in a session of its own, and all that it starts.

    Processes count as the server's while they descend from the program or are in its session: some peers leave
    theirs to init, others give each a session of its own.

    Args:
        argv: The program.
        environ: Its whole environment.
        directory: Its working directory; its output goes there too.

    Attributes:
        started: When it was, by time.monotonic().
    """

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        self._log = directory / "server.log"
        self._seen: dict[int, psutil.Process] = {}
        self.started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                env=environ,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def processes(self) -> list[psutil.Process]:
        """All of its processes that run now."""
        found = [process for process in psutil.process_iter() if self._is_in_session(process.pid)]
        for process in [*found, *self._seen.values()]:
            with contextlib.suppress(psutil.Error):
                found += process.children(recursive=True)
        self._seen.update({process.pid: process for process in found})
        self._seen = {pid: process for pid, process in self._seen.items() if _runs(process)}
        return list(self._seen.values())

    def _is_in_session(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self._process.pid
        except OSError:
            return False

    def pss_bytes(self) -> int:
        """The memory of all its processes, where each shared page counts once: PSS of /proc/PID/smaps_rollup."""
        return sum(_pss_bytes(process.pid) for process in self.processes())

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """When the condition was true for the first time, in seconds after the start.

        Raises:
            ServerError: The program has ended, or the time has passed.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                status = self._process.returncode
                raise ServerError(f"it ended with status {status} before it could {what}{self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"it could not {what} within {seconds:.0f} s{self.tail()}")
            time.sleep(0.005)
        return time.monotonic() - self.started

    def tail(self, lines: int = 5) -> str:
        """The last lines of its output, for an error's end."""
        text = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return "; its last words: " + " / ".join(text[-lines:]) if text else "; it printed nothing"

    def stop(self) -> None:
        """Ends all of its processes: the program by SIGTERM, and whatever has not gone with it by SIGKILL.

        An interrupt meanwhile does not spare them.
        """
        try:
            self._ask_to_end()
        finally:
            _kill(self.processes())
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()

    def _ask_to_end(self) -> None:
        everyone = self.processes()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        psutil.wait_procs([*everyone, *self.processes()], timeout=_ORPHAN_SECONDS)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=_KILL_SECONDS)


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def ask(method: str, url: str, seconds: float, **more: Any) -> requests.Response:
    """Sends one request on a connection of its own, and past any proxy, which has no way to this machine's loopback."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=seconds, **more)


def free_port() -> int:
    """A port of loopback that nobody listens on, below 32767, from which on Multi Model Server takes none."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
