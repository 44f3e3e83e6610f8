# SPDX-License-Identifier: Apache-2.0
"""The load generators: wrk where it is installed, or else aiohttp. Both keep each connection busy all the time."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SCRIPT = Path(__file__).resolve().parent / "post.lua"

# The longest that one request may take, and what a generator may need beside its interval.
REQUEST_SECONDS = 30
_GRACE_SECONDS = 60


class LoadError(Exception):
    """The generator did not work; the message says how."""


@dataclass(frozen=True)
class Request:
    """What is sent again and again.

    Attributes:
        url: Where to.
        headers: Its headers, the content type among them.
        body: Its body.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Load:
    """What a generator saw in one interval.

    Attributes:
        requests: How many were answered.
        errors: How many of these with a status of 400 or more, or not at all.
        seconds: How long the interval was.
        p50_ms, p90_ms, p99_ms: Times until the answer, in milliseconds.
        client_cpu: What the generator itself used: 1.0 is one CPU all the time.
    """

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    client_cpu: float

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


class Generator(Protocol):
    """Makes load."""

    title: str

    def run(self, request: Request, connections: int, seconds: int) -> Load:
        """Sends the request on that many connections, on each the next one as soon as the last is answered.

        Raises:
            LoadError: There is nothing to measure.
        """


def find_generator(name: str | None = None) -> Generator:
    """The generator to use: wrk if it is installed, or else aiohttp; or the one that is named.

    Raises:
        LoadError: wrk is named and not installed.
    """
    program = shutil.which("wrk")
    if program and name != "aiohttp":
        return Wrk(program)
    if name == "wrk":
        raise LoadError("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    return Aiohttp()


class Wrk:
    """https://github.com/wg/wrk, one thread."""

    def __init__(self, program: str) -> None:
        self._program = program
        said = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", timeout=10)
        match = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
        self.title = f"wrk {match[0] if match else ''}".strip()

    def run(self, request: Request, connections: int, seconds: int) -> Load:
        """See Generator."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(request.body)
            file.flush()
            argv = [self._program, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={REQUEST_SECONDS}s"]
            argv += ["-s", str(SCRIPT), request.url, "--", file.name]
            argv += [f"{name}: {value}" for name, value in request.headers.items()]
            before = _cpu_seconds(resource.RUSAGE_CHILDREN)
            try:
                done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + _GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                raise LoadError(f"wrk did not end within {seconds + _GRACE_SECONDS} s") from None
            used = _cpu_seconds(resource.RUSAGE_CHILDREN) - before
        return parse_wrk(done.stdout, used)


def parse_wrk(output: str, cpu_seconds: float) -> Load:
    """What the last line says, which post.lua prints.

    Raises:
        LoadError: There is no such line, or it counts no requests.
    """
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    said = json.loads(lines[-1]) if lines else {"requests": 0}
    if not said["requests"]:
        raise LoadError(f"not one request was answered; wrk printed: {output.strip()[-200:]!r}")
    seconds = said["microseconds"] / 1e6
    p50, p90, p99 = (said[name] / 1e3 for name in ("p50", "p90", "p99"))
    return Load(said["requests"], said["errors"], seconds, p50, p90, p99, client_cpu=cpu_seconds / seconds)


class Aiohttp:
    """An asyncio client in this process. It needs several times the CPU of wrk, which the servers then lack."""

    title = "aiohttp"

    def run(self, request: Request, connections: int, seconds: int) -> Load:
        """See Generator."""
        before = _cpu_seconds(resource.RUSAGE_SELF)
        times, errors, elapsed = asyncio.run(_keep_busy(request, connections, seconds))
        if not times:
            raise LoadError(f"not one request was answered, and {errors} failed")
        used = _cpu_seconds(resource.RUSAGE_SELF) - before
        p50, p90, p99 = (1000 * percentile(times, share) for share in (0.5, 0.9, 0.99))
        return Load(len(times), errors, elapsed, p50, p90, p99, client_cpu=used / elapsed)


async def _keep_busy(request: Request, connections: int, seconds: int) -> tuple[list[float], int, float]:
    import aiohttp  # it takes a while, and wrk does without it

    times: list[float] = []
    errors = 0
    begun = time.perf_counter()

    async def one_connection(session: aiohttp.ClientSession) -> None:
        nonlocal errors
        while time.perf_counter() < begun + seconds:
            sent = time.perf_counter()
            try:
                async with session.post(request.url, data=request.body, headers=request.headers) as response:
                    await response.read()
                    errors += response.status >= 400
                    times.append(time.perf_counter() - sent)
            except (aiohttp.ClientError, asyncio.TimeoutError):
                errors += 1

    limits = {"connector": aiohttp.TCPConnector(limit=connections), "timeout": aiohttp.ClientTimeout(REQUEST_SECONDS)}
    async with aiohttp.ClientSession(**limits) as session:
        await asyncio.gather(*(one_connection(session) for _ in range(connections)))
    return times, errors, time.perf_counter() - begun


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime
