# SPDX-License-Identifier: Apache-2.0
"""The measurements: what is done to a peer in one round, and where the figures come from."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import requests

from benchmarks.load import Generator, Load, LoadError, Request
from benchmarks.peers.peer import JSON, NPY, Job, Peer
from benchmarks.results import Results
from benchmarks.server import ServerError, ServerProcess, ask, free_port

FEATURES, OUTPUTS = 5, 3
SMALL_ROWS = [[5.1, 3.5, 1.4, 0.2, 1.7]]
SMALL = json.dumps(SMALL_ROWS).encode()  # 27 bytes
LARGE_BYTES = 20_000_000

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BODIES = (1_000, 10_000, 100_000, 1_000_000, 5_000_000, 10_000_000, 25_000_000)
WORKERS = (1, 2, 4, 8)
MODELS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

_START_SECONDS = 90
_REQUEST_SECONDS = 30
_SETTLE_SECONDS = 0.5
# A machine that runs out of memory tells nothing of the peer that came last.
_LEAST_FREE_BYTES = 2 * 2**30
# A server is warm once a step is not that much faster than the one before.
_WARM_STEP_SECONDS = 2
_FASTER = 1.05
# Above this share of failed requests a figure is not one of what was asked for.
_FAILED_SHARE = 0.001


@dataclass(frozen=True)
class Plan:
    """How long and how often.

    Attributes:
        rounds: How often each peer is measured for the table.
        curve_rounds: In how many of these the curves are measured too.
        warm_seconds: How long a server is under load at least before it is measured: Java compiles what it has run
            often, and takes the longer for it the more else the machine has to do.
        seconds: How long each interval is that counts.
        further_models: How many models are loaded after the first, in each round.
        most_models: How far the curve over models goes for this library, and for the others.
        own: Whether the libraries' own handler services are measured.
        memory: Whether memory is.
    """

    rounds: int = 4
    curve_rounds: int = 2
    warm_seconds: int = 10
    seconds: int = 6
    further_models: int = 5
    most_models: tuple[int, int] = (500, 10)
    own: bool = True
    memory: bool = True

    @property
    def curve_seconds(self) -> int:
        """How long each interval of a curve is: many neighbours tell together what one figure must tell alone."""
        return max(1, self.seconds // 2)


QUICK = Plan(2, 0, warm_seconds=8, seconds=3, further_models=3, own=False, memory=False)


def npy(size: int) -> bytes:
    """A body of at most that many bytes: float64, rows x FEATURES, each 0.5."""
    rows = max(1, (size - 128) // (8 * FEATURES))
    file = io.BytesIO()
    np.save(file, np.full((rows, FEATURES), 0.5))
    return file.getvalue()


def expected(rows: np.ndarray, weights: np.ndarray) -> float:
    """What every peer must answer."""
    return round(float((rows @ weights).sum()), 3)


class Bench:
    """Measures peers and notes the figures.

    Args:
        plan: How long and how often.
        generator: What makes the load.
        results: Where the figures go.
        scratch: A directory for the servers; its path is short, because sockets are made below it.
    """

    def __init__(self, plan: Plan, generator: Generator, results: Results, scratch: Path) -> None:
        self._plan = plan
        self._generator = generator
        self._results = results
        self._scratch = scratch
        self._weights = np.arange(FEATURES * OUTPUTS, dtype=np.float64).reshape(FEATURES, OUTPUTS) / 8
        self._weights_file = scratch / "weights.npy"
        np.save(self._weights_file, self._weights)
        self._large = npy(LARGE_BYTES)

    # -- A round --

    def round(self, peer: Peer, number: int) -> None:
        """Measures everything of one peer once; what fails is noted, and the rest goes on."""
        has_curves = number < self._plan.curve_rounds
        with self._noted(peer, "a single model"):
            self._single_model(peer, has_curves)
        if peer.has_codecs and self._plan.own:
            with self._noted(peer, "its own handler service"):
                self._own_handler_service(peer)
        if peer.has_models:
            with self._noted(peer, "several models"):
                self._several_models(peer, has_curves)
        elif number == 0:
            self._results.remark(peer.name, "it has no multi-model endpoint")
        if has_curves:
            for workers in WORKERS:
                with self._noted(peer, f"{workers} workers"):
                    self._workers(peer, workers)

    @contextlib.contextmanager
    def _noted(self, peer: Peer, what: str) -> Iterator[None]:
        try:
            yield
        except (ServerError, LoadError, requests.RequestException, OSError, psutil.Error) as error:
            self._results.remark(peer.name, f"{what}: {error}")
            print(f"  {peer.title}, {what}: {error}", file=sys.stderr, flush=True)

    # -- The parts of a round --

    def _single_model(self, peer: Peer, has_curves: bool) -> None:
        with self._serving(peer, "arithmetic", workers=2) as (server, job):
            self._results.add("start", peer.name, self._wait_for_answer(peer, server, job))
            small = self._warm(peer, job)
            load = self._run(small, 8)
            self._results.add("small", peer.name, load.per_second)
            self._results.add("small_p99", peer.name, load.p99_ms)
            self._results.add_client_cpu("small", peer.name, load.client_cpu)
            self._results.add("single", peer.name, self._run(small, 1).p50_ms)
            self._results.add("large", peer.name, self._large_median(peer, job))
            if has_curves:
                self._connections(peer, small)
                self._bodies(peer, job)

    def _own_handler_service(self, peer: Peer) -> None:
        with self._serving(peer, None, workers=2) as (server, job):
            self._wait_for_answer(peer, server, job)
            self._results.add("own_small", peer.name, self._run(self._warm(peer, job), 8).per_second)
            self._results.add("own_large", peer.name, self._large_median(peer, job))

    def _several_models(self, peer: Peer, has_curves: bool) -> None:
        with self._serving(peer, "scikit_learn", workers=1, multi_model=True) as (server, job):
            server.wait_until(lambda: _pings(job.url + peer.ping_path), _START_SECONDS, "answer /ping with 200")
            self._results.add("load_first", peer.name, self._load(peer, job, 1))
            self._results.add("start_many", peer.name, time.monotonic() - server.started)
            self._ask(peer, job, [1])
            base = self._memory(server)
            further = range(2, 2 + self._plan.further_models)
            loads = [self._load(peer, job, number) for number in further]
            self._results.add("load", peer.name, median(loads))
            loaded = self._memory(server)
            self._ask(peer, job, further)
            asked = self._memory(server)
            if self._plan.memory:
                self._results.add("memory", peer.name, (loaded - base) / len(further))
                self._results.add("memory_asked", peer.name, (asked - base) / len(further))
            if has_curves:
                self._results.add_point("models", peer.name, 1, memory=base)
                self._results.add_point("models", peer.name, further[-1], memory=asked, load=median(loads))
                loaded_models = self._models(peer, server, job, further[-1])
                self._unload(peer, job, range(2, loaded_models + 1))
                left = (self._memory(server) - base) / (loaded_models - 1)
                self._results.add("memory_left", peer.name, left)

    def _workers(self, peer: Peer, workers: int) -> None:
        with self._serving(peer, "arithmetic", workers) as (server, job):
            self._wait_for_answer(peer, server, job)
            load = self._run(self._warm(peer, job), 32, self._plan.curve_seconds)
            self._results.add_point("workers", peer.name, workers, throughput=load.per_second)

    # -- Curves --

    def _connections(self, peer: Peer, small: Request) -> None:
        for connections in CONNECTIONS:
            load = self._run(small, connections, self._plan.curve_seconds)
            values = {"throughput": load.per_second, "median": load.p50_ms, "p99": load.p99_ms}
            self._results.add_point("connections", peer.name, connections, **values)

    def _bodies(self, peer: Peer, job: Job) -> None:
        for size in BODIES:
            body = npy(size)
            self._check(peer, job, body, NPY)
            load = self._run(peer.request(job.url, body, NPY), 1, self._plan.curve_seconds)
            self._results.add_point("body", peer.name, size, median=load.p50_ms)

    def _models(self, peer: Peer, server: ServerProcess, job: Job, loaded: int) -> int:
        """Loads more and more models; how many there are at the end."""
        most = self._plan.most_models[0 if peer.name == "ours" else 1]
        for count in (count for count in MODELS if loaded < count <= most):
            if psutil.virtual_memory().available < _LEAST_FREE_BYTES:
                self._results.remark(peer.name, f"stopped at {loaded} models: less than 2 GiB of memory were left")
                break
            further = range(loaded + 1, count + 1)
            loads = [self._load(peer, job, number) for number in further]
            self._ask(peer, job, further)
            loaded = count
            self._results.add_point("models", peer.name, count, memory=self._memory(server), load=median(loads))
        return loaded

    def _unload(self, peer: Peer, job: Job, numbers: Iterable[int]) -> None:
        for number in numbers:
            answer = ask("DELETE", f"{job.url}/models/bench-{number}", _REQUEST_SECONDS)
            if answer.status_code != 200:
                raise ServerError(f"unloading model {number} was answered {answer.status_code} {answer.text[:200]!r}")

    # -- Tools --

    @contextlib.contextmanager
    def _serving(
        self, peer: Peer, logic: str | None, workers: int, multi_model: bool = False
    ) -> Iterator[tuple[ServerProcess, Job]]:
        """A server that has just been started."""
        directory = Path(tempfile.mkdtemp(prefix="", dir=self._scratch))
        try:
            job = Job(logic, self._weights_file, workers, multi_model, directory, free_port())
            if not multi_model:
                peer.place_model(job, None)
            with ServerProcess(peer.command(job), peer.all_variables(job), directory) as server:
                yield server, job
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _wait_for_answer(self, peer: Peer, server: ServerProcess, job: Job) -> float:
        """Seconds from the start until the model is there: by /ping where that can be believed, else by an answer."""
        ping = server.wait_until(lambda: _pings(job.url + peer.ping_path), _START_SECONDS, "answer its health check")
        answer = server.wait_until(lambda: self._answers(peer, job), _START_SECONDS, "answer a request")
        self._check(peer, job, SMALL, JSON)
        return ping if peer.ping_is_true else answer

    def _answers(self, peer: Peer, job: Job) -> bool:
        try:
            return _send(peer.request(job.url, SMALL, JSON)).status_code == 200
        except requests.RequestException:
            return False

    def _check(self, peer: Peer, job: Job, body: bytes, content_type: str, model: str | None = None) -> None:
        """Fails unless the answer is right: a server that answers wrongly may well be fast."""
        answer = _send(peer.request(job.url, body, content_type, model))
        rows = np.asarray(SMALL_ROWS) if content_type == JSON else np.load(io.BytesIO(body))
        right = json.dumps([expected(rows, self._weights)]).replace(" ", "")
        if answer.status_code != 200 or right not in answer.text.replace(" ", ""):
            raise ServerError(f"it answered {answer.status_code} {answer.text[:200]!r} where {right} was right")

    def _warm(self, peer: Peer, job: Job) -> Request:
        """Keeps a server busy until it gets no faster, for twice the time of the plan at the most."""
        small = peer.request(job.url, SMALL, JSON)
        before = self._generator.run(small, 8, self._plan.warm_seconds)
        deadline = time.monotonic() + self._plan.warm_seconds
        while time.monotonic() < deadline:
            now = self._generator.run(small, 8, _WARM_STEP_SECONDS)
            if now.per_second < _FASTER * before.per_second:
                break
            before = now
        return small

    def _large_median(self, peer: Peer, job: Job) -> float:
        self._check(peer, job, self._large, NPY)
        large = peer.request(job.url, self._large, NPY)
        self._generator.run(large, 1, 1)
        return self._run(large, 1).p50_ms

    def _run(self, request: Request, connections: int, seconds: int | None = None) -> Load:
        load = self._generator.run(request, connections, seconds or self._plan.seconds)
        if load.errors > _FAILED_SHARE * load.requests:
            raise LoadError(f"{load.errors} of {load.requests} requests failed with {connections} connections")
        return load

    def _load(self, peer: Peer, job: Job, number: int) -> float:
        """Loads a model; the milliseconds that it took."""
        name = f"bench-{number}"
        directory = peer.place_model(job, name)
        begun = time.perf_counter()
        answer = peer.load(job.url, name, directory)
        taken = 1000 * (time.perf_counter() - begun)
        if answer.status_code != 200:
            raise ServerError(f"loading model {number} was answered {answer.status_code} {answer.text[:200]!r}")
        return taken

    def _ask(self, peer: Peer, job: Job, numbers: Iterable[int]) -> None:
        """Asks each of these models once: pages that models share are their own when they have written to them."""
        for number in numbers:
            self._check(peer, job, SMALL, JSON, f"bench-{number}")

    def _memory(self, server: ServerProcess) -> float:
        """Megabytes, once what the last load has stirred up has settled."""
        time.sleep(_SETTLE_SECONDS)
        return server.pss_bytes() / 1e6


def _pings(url: str) -> bool:
    try:
        return ask("GET", url, 2).status_code == 200
    except requests.RequestException:
        return False


def _send(request: Request) -> requests.Response:
    return ask("POST", request.url, _REQUEST_SECONDS, data=request.body, headers=request.headers)
