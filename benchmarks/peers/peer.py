# SPDX-License-Identifier: Apache-2.0
"""What the harness asks of a peer. Each peer is one module that says only how it differs from this."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import requests

from benchmarks.load import Request
from benchmarks.server import ask

SERVED = Path(__file__).resolve().parents[1] / "served"
JSON = "application/json"
NPY = "application/x-npy"

LOAD_SECONDS = 60
# Body sizes go up to 25 MB, and a multi-model server's first 100 connections are not to be refused.
MAX_PAYLOAD_MIB = 25
QUEUE_SIZE = 1000


@dataclass(frozen=True)
class Job:
    """What a server is to serve.

    Attributes:
        logic: The module in served/ that decodes, predicts and encodes; None: the peer's own default handler service,
            with served/code/inference.py.
        weights: The model's one file.
        workers: Processes that answer requests, for each model.
        multi_model: Whether models are loaded later, by requests.
        directory: An empty directory for the server alone.
        port: The port of loopback to listen on.
    """

    logic: str | None
    weights: Path
    workers: int
    multi_model: bool
    directory: Path
    port: int

    @property
    def url(self) -> str:
        """Where the server will listen."""
        return f"http://127.0.0.1:{self.port}"


class Peer(ABC):
    """A server to measure.

    Attributes:
        name: What the command line calls it.
        distributions: Whose versions the report shows, the peer itself first.
        has_models: Whether it loads and unloads models by requests, as multi-model endpoints do.
        has_codecs: Whether it has a handler service of its own that decodes and encodes.
        ping_is_true: Whether 200 from /ping means that the model is loaded.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]
    has_models: ClassVar[bool] = False
    has_codecs: ClassVar[bool] = False
    ping_is_true: ClassVar[bool] = False
    ping_path: ClassVar[str] = "/ping"
    environment: Path

    # -- What a peer says --

    @abstractmethod
    def build(self) -> Path:
        """Its environment, made or brought up to date.

        Raises:
            PrepareError: It cannot be made.
        """

    def obstacle(self) -> str:
        """Why it cannot run on this machine though its environment could be made; "" where it can."""
        return ""

    @abstractmethod
    def command(self, job: Job) -> list[str]:
        """The program that serves a job."""

    @abstractmethod
    def environ(self, job: Job) -> dict[str, str]:
        """The variables that say what to serve, beside those of every peer."""

    def place_model(self, job: Job, name: str | None) -> Path:
        """Puts a model where the peer looks for it: the single one, or the one of that name."""
        directory = job.directory / "model" if name is None else job.directory / "models" / name / "model"
        self.write_model(job, directory)
        return directory

    def write_model(self, job: Job, directory: Path) -> None:
        """Writes a model's directory."""
        directory.mkdir(parents=True)
        shutil.copy(job.weights, directory / "weights.npy")
        if job.logic is None:
            shutil.copytree(SERVED / "code", directory / "code")

    def clean_up(self) -> None:
        """Removes what was written outside of the job's directory; most peers write nothing there."""
        return

    def headers(self, content_type: str) -> dict[str, str]:
        """The headers that a body of that type is sent with."""
        return {"Content-Type": content_type, "Accept": JSON}

    # -- What holds for all --

    def all_variables(self, job: Job) -> dict[str, str]:
        """The whole environment of its server."""
        temporary = job.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        dropped = ("SAGEMAKER_", "MMS_", "PYTHON", "BENCHMARK_", "BENTOML_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {
            **inherited,
            "PATH": f"{self.environment / 'bin'}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "PYTHONPATH": str(SERVED),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(temporary),
            "OMP_NUM_THREADS": "1",
            "BENCHMARK_LOGIC": job.logic or "",
            "BENCHMARK_MODEL": str(job.directory / "model"),
            "BENCHMARK_WORKERS": str(job.workers),
            "BENCHMARK_PORT": str(job.port),
            **self.environ(job),
        }

    def request(self, url: str, body: bytes, content_type: str, model: str | None = None) -> Request:
        """A request for a prediction."""
        path = "/invocations" if model is None else f"/models/{model}/invoke"
        return Request(url + path, self.headers(content_type), body)

    def load(self, url: str, name: str, directory: Path) -> requests.Response:
        """Loads a model into a multi-model server."""
        body: Mapping[str, str] = {"model_name": name, "url": str(directory)}
        return ask("POST", f"{url}/models", LOAD_SECONDS, json=body)

    def python(self) -> str:
        """The interpreter of its environment."""
        return str(self.environment / "bin" / "python")
